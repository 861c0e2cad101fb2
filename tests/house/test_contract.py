"""Signatures, dvc.yaml, params.yaml and imports agree; and the check sees it when they do not."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import STAGES, In, Out
from components.command_line.stages import load_stage, ports
from components.detect import Detect
from components.service.settings import Serve
from emd_core.config import Config, read_params, section
from tests.house.contract import FLOORS, OF_COMMANDS, ROOT, code_disagreements, disagreements, imports, upward_in

EXPERIMENTS = ("experiments/params.yaml", "params/ffpp-experiments.yaml")


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    return {
        "dvc": yaml.safe_load((ROOT / "dvc.yaml").read_text()),
        "params": yaml.safe_load((ROOT / "params.yaml").read_text()),
        "stages": {name: load_stage(name) for name in STAGES},
    }


def test_everything_agrees(contract: dict[str, Any]) -> None:
    assert disagreements(**contract) == []


class Defaulted(Config):
    size: int = 96


def renamed_port(cfg: Config, *, frames: In, crops: Out) -> None: ...


def defaulted_field(cfg: Defaulted, *, frames: In, faces: Out) -> None: ...


def _cmd(stage: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def break_it(c: dict[str, Any]) -> None:
        entry = c["dvc"]["stages"][stage]
        assert old in entry["cmd"]
        entry["cmd"] = entry["cmd"].replace(old, new)

    return break_it


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "stage missing in dvc.yaml": (lambda c: c["dvc"]["stages"].pop("crop_faces"), "stage 'crop_faces' is missing"),
    "stage renamed in dvc.yaml": (
        lambda c: c["dvc"]["stages"].update(crop=c["dvc"]["stages"].pop("crop_faces")),
        "stage 'crop' is no component",
    ),
    "promotion made a DVC stage": (
        lambda c: c["dvc"]["stages"].update(promote=c["dvc"]["stages"]["gate"]),
        "'promote' must not be a DVC stage",
    ),
    "another verb": (_cmd("gate", "components gate", "components promote"), "gate: cmd runs"),
    "flag misspelt": (_cmd("crop_faces", "--frames", "--frame"), "--frame is no port"),
    "flag missing": (_cmd("generate_masks", "--dataset data/ffpp", ""), "port 'dataset' is not in cmd"),
    "output written elsewhere than declared": (_cmd("crop_faces", "data/faces", "data/crops"), "crop_faces: outs are"),
    "declared output never written": (
        lambda c: c["dvc"]["stages"]["gate"]["outs"].append("decision.md"),
        "gate: outs are",
    ),
    "input not in deps": (
        lambda c: c["dvc"]["stages"]["train_emd"]["deps"].remove("data/report/validity.json"),
        "reads data/report, which is not in deps",
    ),
    "dep never read": (
        lambda c: c["dvc"]["stages"]["evaluate"]["deps"].append("data/frames"),
        "dep data/frames is not read by cmd",
    ),
    "two inputs swapped": (
        _cmd("evaluate", "--faces data/faces --masks data/masks", "--faces data/masks --masks data/faces"),
        "--faces reads data/masks, which is written as --masks",
    ),
    "input that no stage writes": (_cmd("ingest", "data/ffpp", "data/dfdc"), "written by no stage"),
    "room not in deps": (
        lambda c: c["dvc"]["stages"]["train_emd"]["deps"].remove("emd_core/models"),
        "train_emd: imports emd_core/models (",
    ),
    "room never imported": (
        lambda c: c["dvc"]["stages"]["gate"]["deps"].append("emd_core/faces"),
        "gate: dep emd_core/faces is not imported",
    ),
    "file named instead of its room": (
        lambda c: c["dvc"]["stages"]["gate"]["deps"].append("emd_core/evaluation/gating.py"),
        "gate: dep emd_core/evaluation/gating.py is no room",
    ),
    "too many places of code": (
        lambda c: c["dvc"]["stages"]["evaluate"]["deps"].extend(["emd_core/faces", "emd_core/video"]),
        "evaluate: names 8 places of code",
    ),
    "the stage's own file not in deps": (
        lambda c: c["dvc"]["stages"]["crop_faces"]["deps"].remove("components/crop_faces.py"),
        "imports components (crop_faces.py), which is not in deps",
    ),
    "params not declared": (lambda c: c["dvc"]["stages"]["gate"].pop("params"), "gate: params must be [gate]"),
    "params section missing": (lambda c: c["params"].pop("gate"), "no section 'gate'"),
    "params section of no stage": (lambda c: c["params"].update(cropping={}), "section 'cropping' belongs to no stage"),
    "params key misspelt": (
        lambda c: c["params"]["crop_faces"].update(sise=c["params"]["crop_faces"].pop("size")),
        "did you mean 'size'?",
    ),
    "params value of the wrong type": (lambda c: c["params"]["train_emd"].update(epochs=2.5), "train_emd.epochs"),
    "port renamed in a signature": (
        lambda c: c["stages"].update(crop_faces=renamed_port),
        "--faces is no port of crop_faces",
    ),
    "default in a section's type": (lambda c: c["stages"].update(crop_faces=defaulted_field), "'size' has a default"),
    "metrics file that no stage writes": (
        lambda c: c["dvc"]["metrics"].append("metrics.json"),
        "metrics.json is in no stage's outs",
    ),
    "plot of a file that no stage writes": (
        lambda c: c["dvc"]["plots"].append("figures/roc.png"),
        "figures/roc.png is in no stage's outs",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_disagreement_is_named(contract: dict[str, Any], name: str) -> None:
    break_it, expected = BROKEN[name]
    broken = {"dvc": copy.deepcopy(contract["dvc"]), "params": copy.deepcopy(contract["params"])}
    broken["stages"] = dict(contract["stages"])
    break_it(broken)
    assert expected in "\n".join(disagreements(**broken))


def test_rooms_know_no_verbs() -> None:
    assert upward_in(imports()) == []


def test_a_room_that_imports_a_verb_is_seen() -> None:
    graph = copy.deepcopy(imports())
    graph.add_import(importer="components.tracking.run", imported="components.gate")
    assert upward_in(graph) == ["components.tracking.run imports components.gate; what they share belongs into a room"]


UPWARD = {
    "a room imports one above it": (
        "emd_core/storage/limits.py",
        "emd_core.faces.boxes",
        "Rooms of emd_core",
    ),
    "rooms of one row know each other": ("emd_core/datasets/rows.py", "emd_core.video.rgb", "Rooms of emd_core"),
    "a stage imports the pipelines": ("components/gate.py", "pipelines.dag", "Imports run down"),
    "emd_core imports MLflow": ("emd_core/config.py", "mlflow", "emd_core knows no platform"),
    "a stage imports Kubeflow's SDK": ("components/gate.py", "kfp", "Stages know nothing of Kubeflow's SDK"),
    "a room that nobody placed": ("emd_core/attic/__init__.py", "numpy", "Rooms of emd_core"),
}


@pytest.mark.parametrize("name", UPWARD)
def test_a_wall_that_is_broken_is_named(name: str, tmp_path: Path) -> None:
    file, imported, contract_name = UPWARD[name]
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    with (tmp_path / file).open("a") as module:
        module.write(f"\nimport {imported}\n")
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    said = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 1 and f"{contract_name}" in said.stdout.split("BROKEN")[0].splitlines()[-1], said.stdout


PROFILES = [p for p in sorted((ROOT / "params").glob("*.yaml")) if not p.stem.endswith("-experiments")]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_every_profile_has_the_same_keys_and_fits(contract: dict[str, Any], profile: Path) -> None:
    params = read_params(profile)
    assert {n: set(s) for n, s in params.items()} == {n: set(s) for n, s in contract["params"].items()}
    assert disagreements(contract["dvc"], params, contract["stages"]) == []


@pytest.mark.parametrize("profile", [ROOT / "params.yaml", *PROFILES], ids=lambda p: p.name)
def test_the_sections_of_commands_fit_and_have_no_defaults(profile: Path) -> None:
    for name, model in zip(OF_COMMANDS, (Detect, Serve), strict=True):
        section(read_params(profile), name, model, str(profile))
        assert all(field.is_required() for field in model.model_fields.values())


CELLS = {name: yaml.safe_load((ROOT / name).read_text()) for name in EXPERIMENTS}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_experiments_have_every_cell_of_the_papers_tables(name: str) -> None:
    paper = yaml.safe_load((ROOT / "experiments/paper.yaml").read_text())
    cells = CELLS[name]["cells"]
    wanted = {
        f"{network}-{slice_name.replace('/', '-')}"
        for table in ("table2", "table4_accuracy", "table4_miou", "table5")
        for network, row in paper[table].items()
        for slice_name in row
    }
    assert wanted <= set(cells)
    for key, cell in cells.items():
        which = cell["method"] if "method" in cell else f"unseen-{cell['unseen']}"
        assert key.startswith(f"{cell['network']}-{which}-{cell['quality']}")
        assert (ROOT / "params" / f"{CELLS[name]['profile']}-{cell['network']}.yaml").is_file()
    sizes = [c["targets"] for c in cells.values() if c.get("targets") and c.get("method") == "Face2Face"]
    assert len(sizes) >= 2 and sizes == sorted(set(sizes))


def test_the_experiments_stages_fit_their_components(contract: dict[str, Any]) -> None:
    """Ports, paths and code dependencies of experiments/dvc.yaml, as for the main pipeline."""
    for name, entry in yaml.safe_load((ROOT / "experiments/dvc.yaml").read_text())["stages"].items():
        entry = entry.get("do", entry)
        *_, module, verb = entry["cmd"].split()[:4]
        assert code_disagreements(name, entry["deps"], {"train": "train_emd", "cell": "evaluate"}.get(name, verb)) == []
        if module == "components":
            given = dict(zip(entry["cmd"].split()[4::2], entry["cmd"].split()[5::2], strict=True))
            directions = ports(contract["stages"][verb])
            written = {path for option, path in given.items() if directions.get(option[2:]) == "out"}
            read = {path for option, path in given.items() if directions.get(option[2:]) == "in"}
            assert {option[2:] for option in given} - {"params", "set"} == set(directions)
            assert set(entry["outs"]) == written
            assert read <= set(entry["deps"])
        else:
            assert (verb, entry["cmd"].split()[4]) == ("cell", {"train": "train", "cell": "judge"}[name])
