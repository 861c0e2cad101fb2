"""The compiled Kubeflow pipeline: it agrees with the stages and dvc.yaml, and runs where it should."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import STAGES
from components.command_line.stages import load_stage
from emd_core.config import read_params
from emd_core.errors import UserError
from pipelines.cluster import read_cluster
from pipelines.compile import compile
from pipelines.run_local import require_webhook
from pipelines.status import SHARDED
from tests.house.contract import ROOT
from tests.house.contract_dag import dag_disagreements, read_tasks
from tests.pipelines.test_placeholders import unseen

PROFILES = [p for p in sorted((ROOT / "params").glob("ffpp*.yaml")) if not p.stem.endswith("-experiments")]
CLUSTER = ROOT / "pipelines/cluster.yaml"
IMAGE = "registry.example/emd:0123abc"
ON_GPU = {"crop_faces", "train_fer", "train_emd", "evaluate", "promote"}


def compiled(out: Path, params: Path = ROOT / "params/ffpp.yaml", **options: Any) -> tuple[Any, Any]:
    """The pipeline spec and the Kubernetes settings per task."""
    compile(image=IMAGE, params=params, out=out / "pipeline.yaml", **({"cluster": CLUSTER} | options))
    spec, platform = yaml.safe_load_all((out / "pipeline.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec, {name.removeprefix("exec-").replace("-", "_"): e for name, e in executors.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return compiled(tmp_path_factory.mktemp("dag"), set=["train_emd.lr=5e-4"])


@pytest.fixture(scope="module")
def contract(package: tuple[Any, Any]) -> dict[str, Any]:
    return {
        "spec": package[0],
        "dvc": yaml.safe_load((ROOT / "dvc.yaml").read_text()),
        "params": read_params(ROOT / "params/ffpp.yaml", ["train_emd.lr=5.0e-4"]),
        "stages": {name: load_stage(name) for name in STAGES},
    }


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_every_profile_compiles_with_its_values_as_defaults(profile: Path, tmp_path: Path) -> None:
    given = compiled(tmp_path, profile)[0]["root"]["inputDefinitions"]["parameters"]
    for stage, values in read_params(profile).items():
        if stage in STAGES and stage != "make_sample":  # a cluster trains on real data
            assert json.loads(given[f"{stage}_cfg"]["defaultValue"]) == values
    assert unseen(tmp_path / "pipeline.yaml") == []


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_every_profile_of_a_cell_states_command_hours_and_the_papers_score(profile: Path) -> None:
    header = "".join(line for line in profile.read_text().splitlines(keepends=True) if line.startswith("#"))
    if profile.stem != "ffpp":
        assert all(word in header for word in ("python -m pipelines compile", "GPU hours", "paper's score"))


def test_the_pipeline_agrees_with_stages_and_dvc(contract: dict[str, Any]) -> None:
    assert dag_disagreements(**contract) == []


def _arg(stage: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def break_it(c: dict[str, Any]) -> None:
        args = c["spec"]["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]["args"]
        args[args.index(old)] = new

    return break_it


def _tasks(c: dict[str, Any]) -> Any:
    return c["spec"]["components"]["comp-exit-handler-1"]["dag"]["tasks"]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "task missing": (lambda c: _tasks(c).pop("gate"), "stage 'gate' is missing"),
    "task that is no stage": (
        lambda c: _tasks(c).update(judge=_tasks(c).pop("gate")),
        "task 'judge' is no component",
    ),
    "flag misspelt": (_arg("crop-faces", "--frames", "--frame"), "--frame is no port of crop_faces"),
    "flag of another port": (
        _arg("evaluate", "{{$.inputs.artifacts['masks'].path}}", "{{$.inputs.artifacts['faces'].path}}"),
        "evaluate has --masks {{$.inputs.artifacts['faces'].path}}",
    ),
    "another stage's command": (
        lambda c: c["spec"]["deploymentSpec"]["executors"]["exec-gate"]["container"]["command"].__setitem__(
            3, "report"
        ),
        "gate runs",
    ),
    "edge missing": (
        lambda c: _tasks(c)["train-emd"]["inputs"]["artifacts"].pop("report"),
        "train_emd.report comes from None, in dvc.yaml from validate_data",
    ),
    "edge from elsewhere": (
        lambda c: _tasks(c)["validate-data"]["inputs"]["artifacts"]["videos"]["taskOutputArtifact"].update(
            producerTask="merge-shards"
        ),
        "validate_data.videos comes from merge_shards, in dvc.yaml from ingest",
    ),
    "data read before they are there": (
        lambda c: _tasks(c)["train-fer"].pop("dependentTasks"),
        "train_fer.expressions is read from the volume before fetch_data has ended",
    ),
    "another section": (
        lambda c: c["spec"]["root"]["inputDefinitions"]["parameters"]["gate_cfg"].update(defaultValue="{}"),
        "gate_cfg is not the section gate",
    ),
    "edge that DVC lacks": (
        lambda c: c["dvc"]["stages"]["gate"].update(
            cmd="python -m components gate --evaluation models/emd --decision d"
        ),
        "gate.evaluation comes from evaluate, in dvc.yaml from train_emd",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_disagreement_is_named(contract: dict[str, Any], name: str) -> None:
    break_it, expected = BROKEN[name]
    broken = {**contract, "spec": copy.deepcopy(contract["spec"]), "dvc": copy.deepcopy(contract["dvc"])}
    break_it(broken)
    assert expected in "\n".join(dag_disagreements(**broken))


def test_only_the_stages_of_the_gpu_pool_carry_its_settings(package: tuple[Any, Any]) -> None:
    spec, kubernetes = package
    for stage, executor in read_tasks(spec).executors.items():
        role = "gpu" if stage in ON_GPU else "cpu"
        chosen = {"componentInputParameter": f"pipelinechannel--{role}_node_selector"}
        if stage == "notify":  # at the root, where a parameter has its plain name
            chosen = {"componentInputParameter": f"{role}_node_selector"}
        assert kubernetes[stage]["nodeSelector"]["nodeSelectorJson"] == chosen
        (toleration,) = kubernetes[stage]["tolerations"]
        assert toleration["tolerationJson"]["componentInputParameter"].endswith(f"{role}_tolerations")
        resources = executor["container"]["resources"]
        assert ("accelerator" in resources) == (role == "gpu")
        assert resources["resourceMemoryLimit"].endswith(f"{role}_memory_limit']}}}}")
        if role == "gpu":
            assert resources["accelerator"]["resourceType"].endswith("gpu_accelerator']}}")
            (shm,) = kubernetes[stage]["emptyDirMounts"]
            assert (shm["mountPath"], shm["medium"], shm["sizeLimit"]) == ("/dev/shm", "Memory", "8Gi")
        else:
            assert "emptyDirMounts" not in kubernetes[stage]


def test_the_pools_values_are_the_parameters_defaults(package: tuple[Any, Any]) -> None:
    given = {n: p.get("defaultValue") for n, p in package[0]["root"]["inputDefinitions"]["parameters"].items()}
    assert given["gpu_node_selector"] == {"emd/pool": "gpu"} and given["cpu_node_selector"] == {}
    assert given["gpu_tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (given["gpu_accelerator"], given["gpu_count"], given["claim"]) == ("nvidia.com/gpu", "1", "emd-data")
    assert given["shards"] == [f"{k}/8" for k in range(1, 9)]


def test_every_group_hands_down_the_parameters_that_its_tasks_use(package: tuple[Any, Any]) -> None:
    assert handed_down(package[0]) == []


def handed_down(spec: Any) -> list[str]:
    """What a task reads and its group was not given; kfp 2.17 forgets parameters that are resources, and a task in a
    loop then cannot find its memory limit."""
    missing = []

    def look(dag: Any, known: set[str]) -> None:
        for name, task in dag["tasks"].items():
            inputs = task["inputs"].get("parameters", {})
            read = {i["componentInputParameter"] for i in inputs.values() if "componentInputParameter" in i}
            missing.extend(f"{name}: {parameter}" for parameter in read - known)
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                look(component["dag"], set(component["inputDefinitions"]["parameters"]))

    look(spec["root"]["dag"], set(spec["root"]["inputDefinitions"]["parameters"]))
    return missing


def test_secrets_are_referenced_and_optional_never_inlined(package: tuple[Any, Any]) -> None:
    spec, kubernetes = package
    tracked = ("validate_data", "train_fer", "train_emd", "evaluate", "gate", "promote", "report")
    wanted = {stage: ["emd-mlflow"] for stage in tracked}
    wanted |= {"fetch_data": ["emd-mlflow", "emd-dvc"], "notify": ["emd-webhook"]}
    for stage, executor in read_tasks(spec).executors.items():
        references = kubernetes[stage].get("secretAsEnv", [])
        assert [r["secretName"] for r in references] == wanted.get(stage, [])
        assert all(r["optional"] for r in references)
        inlined = {e["name"] for e in executor["container"].get("env", [])}
        assert inlined <= {"EMD_CHECKPOINTS", "EMD_IMAGE"}, stage
    text = json.dumps(package)
    assert not any(f"{word}=" in text for word in ("PASSWORD", "TOKEN", "SECRET_ACCESS_KEY", "WEBHOOK"))


def test_every_task_runs_the_one_image_with_a_time_limit_and_retries(package: tuple[Any, Any]) -> None:
    spec, kubernetes = package
    flat = read_tasks(spec)
    assert {e["container"]["image"] for e in flat.executors.values()} == {IMAGE}
    for stage, task in flat.tasks.items():
        assert task["retryPolicy"]["maxRetryCount"] == 2
        hours = {"train_emd": 168, "train_fer": 72}.get(stage, 24)
        assert int(kubernetes[stage]["activeDeadlineSeconds"]) == hours * 3600
    cached = {stage for stage, task in flat.tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == set(STAGES) - {"make_sample", "fetch_data", "promote", "report"}


@pytest.mark.parametrize("pool", [[], ["gpu=gpu-spot"]])
def test_waits_are_what_the_cluster_file_says_and_an_attempt_of_days_can_be_retried(
    tmp_path: Path, pool: list[str]
) -> None:
    """Argo waits backoffDuration * backoffFactor ** n and reads the factor as a whole number; backoffMaxDuration counts
    from the first attempt."""
    spec, kubernetes = compiled(tmp_path, pool=pool)
    for stage, task in read_tasks(spec).tasks.items():
        policy = task["retryPolicy"]
        factor, retries = policy["backoffFactor"], policy["maxRetryCount"]
        assert factor == int(factor)
        waits = [int(policy["backoffDuration"].removesuffix("s")) * factor**n for n in range(retries)]
        assert waits == [300] * retries, stage
        window = int(policy["backoffMaxDuration"].removesuffix("s"))
        assert window == 336 * 3600 > int(kubernetes[stage]["activeDeadlineSeconds"]) + sum(waits)


def test_status_knows_which_stages_are_in_the_loop(package: tuple[Any, Any]) -> None:
    assert {*package[0]["components"]["comp-for-loop-2"]["dag"]["tasks"], "detect"} == set(SHARDED)


def test_a_run_has_a_deadline_and_its_pods_do_not_stay_for_ever(tmp_path: Path) -> None:
    compiled(tmp_path)
    _, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    config = platform["platforms"]["kubernetes"]["pipelineConfig"]
    kept = ("resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure")
    assert config == {"activeDeadlineSeconds": 336 * 3600, **dict.fromkeys(kept, 168 * 3600)}


def test_the_volume_is_mounted_where_data_or_checkpoints_are(package: tuple[Any, Any]) -> None:
    mounted = {stage for stage, settings in package[1].items() if "pvcMount" in settings}
    assert mounted == {
        "fetch_data",
        "ingest",
        "extract_frames",
        "crop_faces",
        "generate_masks",
        "train_fer",
        "train_emd",
    }
    executor = read_tasks(package[0]).executors["train_emd"]["container"]
    environment = {"EMD_CHECKPOINTS": "/data/checkpoints", "EMD_IMAGE": IMAGE}
    assert {e["name"]: e["value"] for e in executor["env"]} == environment


def test_the_exit_handler_tells_how_the_run_ended_and_the_gate_has_two_branches(package: tuple[Any, Any]) -> None:
    spec = package[0]
    notify = spec["root"]["dag"]["tasks"]["notify"]
    assert notify["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert notify["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"] == "exit-handler-1"
    branches = {
        next(iter(c["dag"]["tasks"])): c for n, c in spec["components"].items() if n.startswith("comp-condition-")
    }
    assert {"promote", "report"} <= set(branches)


def test_another_block_for_the_gpu_pool(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path, pool=["gpu=gpu-spot"])
    given = spec["root"]["inputDefinitions"]["parameters"]
    assert given["gpu_node_selector"]["defaultValue"] == {"emd/pool": "gpu-spot"}
    assert len(given["gpu_tolerations"]["defaultValue"]) == 2
    tasks = read_tasks(spec).tasks
    assert tasks["train_emd"]["retryPolicy"]["maxRetryCount"] == 20
    assert tasks["ingest"]["retryPolicy"]["maxRetryCount"] == 2
    (shm,) = compiled(tmp_path, pool=["gpu=a100"])[1]["train_emd"]["emptyDirMounts"]
    assert shm["sizeLimit"] == "32Gi"


def test_several_nodes_train_by_a_launcher_that_hands_on_its_place(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(CLUSTER.read_text().replace("nodes: 1 ", "nodes: 4 "))
    spec, kubernetes = compiled(tmp_path, cluster=cluster)
    component = spec["components"]["comp-train-emd-on-nodes"]
    handed = {p["field"]: p.get("applyToTask", False) for p in component["taskConfigPassthroughs"]}
    own = {"ENV", "KUBERNETES_VOLUMES"}  # what the launcher needs as well
    others = {"RESOURCES", "KUBERNETES_NODE_SELECTOR", "KUBERNETES_TOLERATIONS", "KUBERNETES_AFFINITY"}
    assert handed == {**dict.fromkeys(own, True), **dict.fromkeys(others, False)}
    task = read_tasks(spec).tasks["train_emd_on_nodes"]["inputs"]["parameters"]
    assert task["nodes"]["runtimeValue"]["constant"] == "4"
    assert task["processes"]["componentInputParameter"] == "pipelinechannel--gpu_count"
    assert {"pvcMount", "emptyDirMounts", "tolerations", "secretAsEnv"} <= set(kubernetes["train_emd_on_nodes"])


@pytest.mark.parametrize(
    ("text", "pools", "said"),
    [
        (None, ["gpu=h100"], "--pool gpu=h100 must be cpu=BLOCK or gpu=BLOCK, BLOCK one of cpu, gpu, gpu-spot, a100"),
        (None, ["tpu=a100"], "--pool tpu=a100 must be"),
        ("pools: [", [], "is not valid YAML"),
        ("pools: {}", [], "cluster.on_gpu is missing"),
        ("shard: 3", [], "did you mean 'shards'?"),
        ("pools: {cpu: {count: 1}}", [], "cluster.pools.cpu.node_selector is missing"),
        (("name: emd-webhook", "name: EMD webhook"), [], "cluster.secrets.webhook.name = 'EMD webhook' is refused"),
        (
            ("keys: [EMD_WEBHOOK]", "keys: [EMD-WEBHOOK]"),
            [],
            "cluster.secrets.webhook.keys.0 = 'EMD-WEBHOOK' is refused",
        ),
        (("  webhook:", "  hook:"), [], "cluster.secrets.webhook is missing"),
        (("memory_limit: 64Gi", "memory_limit: 64 GB"), [], "cluster.pools.gpu.memory_limit = '64 GB' is refused"),
        (("[crop_faces, train_fer", "[crop_face, train_fer"), [], "name no stage by 'crop_face'"),
        ((", other: 24", ""), [], "timeout_h needs 'other'"),
    ],
)
def test_a_wrong_cluster_file_is_refused(
    tmp_path: Path, text: str | tuple[str, str] | None, pools: list[str], said: str
) -> None:
    """`text`: the whole file, or what to replace in the repository's."""
    path = CLUSTER if text is None else tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text if isinstance(text, str) else CLUSTER.read_text().replace(*text))
    with pytest.raises(UserError, match=said.replace("[", r"\[").replace("?", r"\?")):
        read_cluster(path, pools)


def test_values_from_the_command_line_reach_the_pipeline(package: tuple[Any, Any]) -> None:
    parameters = package[0]["root"]["inputDefinitions"]["parameters"]
    assert json.loads(parameters["train_emd_cfg"]["defaultValue"])["lr"] == 5e-4


@pytest.mark.parametrize("image", ["Emd:abc", "emd:abc def", "emd:", "-emd:1", "emd@sha256:abc"])
def test_what_cannot_be_an_image_is_refused_before_anything_is_read(image: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--image: .* is no image's name; write registry/name:tag"):
        compile(image=image, params=tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("url", ["hooks.example.com/x", "ftp://host/x", "https:///x"])
def test_a_webhook_that_cannot_be_is_refused_before_the_run(url: str) -> None:
    require_webhook("https://hooks.example.com/x")
    with pytest.raises(UserError, match="EMD_WEBHOOK is no URL") as refused:
        require_webhook(url)
    assert url not in str(refused.value)


def test_a_wrong_value_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    command = f"pipelines compile --image emd:1 --params params.yaml --set train_emd.epoch=3 --out {tmp_path}/p.yaml"
    result = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "train_emd.epoch is not a known key; did you mean 'epochs'?" in result.stderr
    assert not (tmp_path / "p.yaml").exists()
