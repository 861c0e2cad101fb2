"""The compiled pipeline emd-detect: its tasks are what the commands take, and run where they should."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.command_line.stages import load_stage
from components.judging.settle import settle
from emd_core.config import read_params
from emd_core.errors import UserError
from pipelines.compile import compile
from pipelines.parameters import typed_parameters
from pipelines.status import SHARDED
from pipelines.validate import check
from tests.house.contract import ROOT
from tests.house.contract_dag import read_tasks
from tests.pipelines.test_dag import CLUSTER, IMAGE, handed_down
from tests.pipelines.test_placeholders import RUN_ID, unseen

COMMANDS = {"settle": settle, "detect": load_stage("detect"), "merge_verdicts": load_stage("merge_verdicts")}


def compiled(out: Path, on_gpu: bool = True, **options: Any) -> tuple[Path, Any, Any]:
    """The package, its spec, and the Kubernetes settings per task."""
    cluster, package = out / "cluster.yaml", out / "pipeline.yaml"
    cluster.write_text(CLUSTER.read_text() if on_gpu else CLUSTER.read_text().replace(", detect]", "]"))
    compile(image=IMAGE, params=ROOT / "params/ffpp.yaml", dag="detect", cluster=cluster, out=package, **options)
    spec, platform = yaml.safe_load_all(package.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return package, spec, {name.removeprefix("exec-").replace("-", "_"): e for name, e in executors.items()}


@pytest.mark.parametrize("on_gpu", [True, False])
def test_detect_runs_on_the_pool_that_the_cluster_file_names(on_gpu: bool, tmp_path: Path) -> None:
    package, spec, kubernetes = compiled(tmp_path, on_gpu)
    assert check(package).pipeline_info.name == "emd-detect"
    assert unseen(package) == []
    assert handed_down(spec) == []
    flat = read_tasks(spec)
    assert set(flat.tasks) == {*COMMANDS, "notify"}
    for name, executor in flat.executors.items():
        role = "gpu" if name == "detect" and on_gpu else "cpu"
        place = kubernetes[name]["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"]
        assert place.endswith(f"{role}_node_selector"), name
        assert ("accelerator" in executor["container"]["resources"]) == (role == "gpu")
        assert executor["container"]["image"] == IMAGE
        assert kubernetes[name]["fieldPathAsEnv"] == [RUN_ID]
        assert ("pvcMount" in kubernetes[name]) == (name != "notify")
        secrets = [secret["secretName"] for secret in kubernetes[name].get("secretAsEnv", [])]
        wanted = {"settle": ["emd-mlflow"], "detect": ["emd-mlflow"], "notify": ["emd-webhook"]}
        assert secrets == wanted.get(name, [])
        assert flat.tasks[name]["retryPolicy"]["maxRetryCount"] == 2
        assert not flat.tasks[name]["cachingOptions"], "the volume and the champion change"


def test_the_tasks_are_what_the_commands_take(tmp_path: Path) -> None:
    """Their options, and for detect its section of the params file."""
    _, spec, _ = compiled(tmp_path, set=["detect.frames=9"])
    for name, executor in read_tasks(spec).executors.items():
        if name in COMMANDS:
            module = "components.judging.settle" if name == "settle" else name
            assert executor["container"]["command"][-1] == module
            given = [arg[2:] for arg in executor["container"]["args"] if arg.startswith("--")]
            assert set(given) <= set(inspect.signature(COMMANDS[name]).parameters), name
    section = spec["root"]["inputDefinitions"]["parameters"]["detect_cfg"]["defaultValue"]
    assert json.loads(section) == read_params(ROOT / "params/ffpp.yaml", ["detect.frames=9"])["detect"]


def test_every_shard_gets_the_settled_version_and_all_of_them_are_joined(tmp_path: Path) -> None:
    _, spec, _ = compiled(tmp_path)
    (loop,) = [c for name, c in spec["components"].items() if name.startswith("comp-for-loop")]
    assert set(loop["dag"]["tasks"]) == {"detect"} < set(SHARDED)
    assert read_tasks(spec).edges == {("detect", "settled"): "settle", ("merge_verdicts", "shards"): "detect"}
    args = spec["deploymentSpec"]["executors"]["exec-detect"]["container"]["args"]
    assert args[args.index("--model") + 1] == "{{$.inputs.artifacts['settled'].path}}"


def test_a_run_names_a_folder_on_the_volume(tmp_path: Path) -> None:
    spec = check(compiled(tmp_path)[0])
    right = {"videos": "clips/2026", "verdicts": "verdicts/2026", "shards": ["1/1"]}
    assert typed_parameters(spec, ["videos=clips/2026", "verdicts=verdicts/2026", 'shards=["1/1"]']) == right
    for given, sentence in {
        (): "the pipeline needs --parameter videos=…",
        ("videos=/data/clips",): "parameter.videos = '/data/clips' is refused",
        ("videos=s3://clips",): "parameter.videos = 's3://clips' is refused",
        ("videos=../etc",): "parameter.videos = '../etc' is refused",
        ("videos=",): "parameter.videos = '' is refused",
        ("videos=a", "verdicts=/data/a"): "parameter.verdicts = '/data/a' is refused",
        ("videos=a", 'detect_cfg={"frame": 1}'): "parameter.detect_cfg.frame is not a known key",
    }.items():
        with pytest.raises(UserError, match=re.escape(sentence)):
            typed_parameters(spec, list(given))
