"""The Kubeflow pipeline compiles from every profile of the paper and agrees with the stages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import STAGES
from components.__main__ import load_stage, ports
from emd_core.config import read_params
from pipelines.compile import compile
from tests.contract import ROOT

PROFILES = [p for p in sorted((ROOT / "params").glob("ffpp*.yaml")) if not p.stem.endswith("-experiments")]
ON_GPU = {"crop_faces", "train_fer", "train_emd", "evaluate"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("dag") / "pipeline.yaml"
    compile(image="emd:abc", params=ROOT / "params/ffpp.yaml", set=["train_emd.lr=5e-4"], out=out)
    return dict(yaml.safe_load(out.read_text()))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_every_profile_compiles_with_its_values_as_defaults(profile: Path, tmp_path: Path) -> None:
    compile(image="emd:abc", params=profile, out=tmp_path / "pipeline.yaml")
    given = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
    for stage, values in read_params(profile).items():
        if stage != "make_sample":  # a cluster trains on real data
            assert json.loads(given[f"{stage}_cfg"]["defaultValue"]) == values


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_every_profile_of_a_cell_states_command_hours_and_the_papers_score(profile: Path) -> None:
    header = "".join(line for line in profile.read_text().splitlines(keepends=True) if line.startswith("#"))
    if profile.stem != "ffpp":
        assert all(word in header for word in ("python -m pipelines compile", "GPU hours", "paper's score"))


def test_every_stage_is_a_task_with_its_own_ports(spec: dict[str, Any]) -> None:
    executors = {name.removeprefix("exec-"): e for name, e in spec["deploymentSpec"]["executors"].items()}
    stages = set(STAGES) - {"make_sample"}
    assert {n.replace("-", "_") for n in executors if not n.startswith("importer")} == stages
    for stage in stages:
        container = executors[stage.replace("_", "-")]["container"]
        component = spec["components"][f"comp-{stage.replace('_', '-')}"]
        directions = ports(load_stage(stage))
        assert container["image"] == "emd:abc"
        assert container["command"] == ["python", "-m", "components", stage]
        assert ("accelerator" in container.get("resources", {})) == (stage in ON_GPU)
        for direction, key in (("in", "inputDefinitions"), ("out", "outputDefinitions")):
            named = set(component.get(key, {}).get("artifacts", {}))
            assert named == {p for p, d in directions.items() if d == direction} - {"champion"}
            for port in named:
                flag = container["args"].index(f"--{port}")
                assert container["args"][flag + 1] == f"{{{{$.{direction}puts.artifacts['{port}'].path}}}}"


def test_a_port_is_fed_by_the_stage_that_writes_a_port_of_that_name(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    edges = {
        (name, port): wire["taskOutputArtifact"]
        for name, task in tasks.items()
        for port, wire in task["inputs"].get("artifacts", {}).items()
    }
    assert len(edges) == 21
    for (name, port), wire in edges.items():
        if wire["producerTask"].startswith("importer"):
            assert port in ("dataset", "expressions"), name
        else:
            assert wire["outputArtifactKey"] == port, name


def test_values_from_the_command_line_reach_the_pipeline(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert json.loads(parameters["train_emd_cfg"]["defaultValue"])["lr"] == 5e-4


def test_a_wrong_value_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    command = f"pipelines compile --image i --params params.yaml --set train_emd.epoch=3 --out {tmp_path}/p.yaml"
    result = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "train_emd.epoch is not a known key; did you mean 'epochs'?" in result.stderr
    assert not (tmp_path / "p.yaml").exists()
