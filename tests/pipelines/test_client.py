"""submit, schedule and status against a small Kubeflow server: what it receives, what the user reads, exit codes."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from kfp import compiler, dsl

from emd_core.errors import UserError
from pipelines.compile import compile
from pipelines.schedule import schedule
from pipelines.server import client
from pipelines.status import status, stopped
from pipelines.submit import _wait, submit
from tests.fakes.fake_kfp import FakeKfp, Refusal, recorded, refuse, serve
from tests.house.contract import ROOT


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    @dsl.container_component
    def train(lr: float, epochs: int, spot: bool, slices: list, pool: dict, cfg: str) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image="emd:abc", command=["train"], args=[lr, epochs, spot, slices, pool, cfg])

    @dsl.pipeline(name="inner")
    def inner(lr: float, cfg: str) -> None:
        train(lr=lr, epochs=1, spot=True, slices=[], pool={}, cfg=cfg)

    @dsl.pipeline(name="emd")
    def emd(
        cfg: str,
        lr: float = 0.1,
        epochs: int = 3,
        spot: bool = False,
        slices: list = ["c23"],  # noqa: B006
        pool: dict = {"gpu": "t4"},  # noqa: B006
    ) -> None:
        train(lr=lr, epochs=epochs, spot=spot, slices=slices, pool=pool, cfg=cfg)
        inner(lr=lr, cfg=cfg)

    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compiler.Compiler().compile(emd, str(path))
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKfp]:
    for name in [name for name in os.environ if name.startswith("KF_PIPELINES")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(client._Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    monkeypatch.setattr(client, "TIMEOUT", (1, 5))
    with serve() as server:
        yield server


def run(fake: FakeKfp, package: Path, **options: Any) -> None:
    submit(**({"package": package, "endpoint": fake.url, "parameter": ["cfg={}"], "poll": 0.01} | options))


def plan(fake: FakeKfp, package: Path, **options: Any) -> None:
    given = {"package": package, "endpoint": fake.url, "parameter": ["cfg={}"], "cron": "0 3 * * 1"}
    schedule(**(given | options))


def test_the_first_submit_makes_pipeline_experiment_and_run(
    fake: FakeKfp, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["cfg=a=b", "lr=1e-4", "epochs=2", "spot=True", 'slices=["c40"]', 'pool={"gpu": "a100"}']
    run(fake, package, parameter=typed, run_name="first", service_account="emd-runner", version_name="v1")
    (sent,) = fake.runs.values()
    values = {"cfg": "a=b", "lr": 1e-4, "epochs": 2, "spot": True, "slices": ["c40"], "pool": {"gpu": "a100"}}
    assert sent["runtime_config"]["parameters"] == values
    assert (sent["display_name"], sent["service_account"]) == ("first", "emd-runner")
    assert fake.experiments[sent["experiment_id"]]["display_name"] == "emd"
    version = fake.versions[sent["pipeline_version_reference"]["pipeline_version_id"]]
    assert (version["display_name"], fake.pipelines[version["pipeline_id"]]["display_name"]) == ("v1", "emd")
    assert f"{fake.url}/#/runs/details/{sent['run_id']}\n" in capsys.readouterr().out


def test_the_next_submit_adds_a_version_named_by_commit_and_time(fake: FakeKfp, package: Path) -> None:
    run(fake, package, version_name="v1")
    for table, key in ((fake.pipelines, "pipeline_id"), (fake.experiments, "experiment_id")):
        table["other"] = {key: "other", "display_name": "another team's"}
    run(fake, package)
    assert [len(table) for table in (fake.pipelines, fake.experiments, fake.versions, fake.runs)] == [2, 2, 2, 2]
    assert {version["pipeline_id"] for version in fake.versions.values()} == set(fake.pipelines) - {"other"}
    assert {sent["experiment_id"] for sent in fake.runs.values()} == set(fake.experiments) - {"other"}
    name = list(fake.versions.values())[1]["display_name"]
    assert re.fullmatch(r"([0-9a-f]+(-dirty)?-)?\d{8}-\d{6}", name)
    with pytest.raises(UserError, match="pipeline emd has a version v1 already; give another --version-name"):
        run(fake, package, version_name="v1")


def test_a_package_is_compiled_from_params_and_image(fake: FakeKfp) -> None:
    given = {"image": "emd:abc", "params": ROOT / "params/ffpp.yaml", "set": ["train_emd.lr=5e-4"]}
    run(fake, package=None, parameter=["data_source=s3://data", "gpu_count=2"], pool=["gpu=a100"], **given)
    (version,) = fake.versions.values()
    parameters = version["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert '"lr": 0.0005' in parameters["train_emd_cfg"]["defaultValue"]
    assert parameters["gpu_node_selector"]["defaultValue"] == {"emd/pool": "a100"}
    (sent,) = fake.runs.values()
    assert sent["runtime_config"]["parameters"] == {"data_source": "s3://data", "gpu_count": "2"}


def test_without_cache_no_task_is_cached(fake: FakeKfp, package: Path) -> None:
    for cache in (True, False):
        run(fake, package, cache=cache, version_name=str(cache))
    for version in fake.versions.values():
        spec = version["pipeline_spec"]
        dags = [component["dag"] for component in [spec["root"], *spec["components"].values()] if "dag" in component]
        cached = [task["cachingOptions"].get("enableCache", False) for dag in dags for task in dag["tasks"].values()]
        assert cached == [version["display_name"] == "True"] * 3


def test_a_namespace_owns_pipeline_and_experiment(fake: FakeKfp, package: Path) -> None:
    run(fake, package)
    run(fake, package, namespace="team-a", version_name="v2")
    assert [p.get("namespace") for p in fake.pipelines.values()] == [None, "team-a"]
    assert [e.get("namespace") for e in fake.experiments.values()] == [None, "team-a"]


def test_waiting_prints_each_change_once(fake: FakeKfp, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake.progress = [
        ("RUNNING", {"train": "PENDING"}),
        ("RUNNING", {"train": "RUNNING"}),
        ("RUNNING", {"train": "RUNNING"}),
        ("SUCCEEDED", {"train": "SUCCEEDED", "inner": "SUCCEEDED"}),
    ]
    fake.faults = {"GET /runs/": [refuse(503, "upstream connect error", 14)]}  # outlived
    run(fake, package, wait=True)
    lines = capsys.readouterr().out.splitlines()[2:]
    states = ["PENDING    train", "RUNNING    train", "SUCCEEDED  train", "SUCCEEDED  inner"]
    assert lines[:-1] == states
    assert lines[-1].endswith("ended SUCCEEDED")


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_waiting_for_a_run_that_does_not_succeed_exits_1(fake: FakeKfp, package: Path, state: str) -> None:
    fake.progress = [("RUNNING", {"train": "RUNNING"}), (state, {"train": state, "promote-driver": "FAILED"})]
    arguments = ["submit", f"--package={package}", "--parameter=cfg={}", "--wait", "--poll=0.01"]
    result = command(fake.url, *arguments)
    assert result.returncode == 1
    named = "train, " if state == "FAILED" else ""
    (last,) = result.stderr.splitlines()
    assert f"ended {state}; failed: {named}promote-driver; see http" in last


def test_waiting_ends_when_time_is_up_or_the_server_stays_away(fake: FakeKfp, package: Path) -> None:
    fake.progress = [("RUNNING", {})]
    with pytest.raises(UserError, match="is still RUNNING after 0 s; it goes on"):
        run(fake, package, wait=True, timeout=0)
    fake.faults = {"GET /runs/": [refuse(500, "database is gone")] * 5}
    with pytest.raises(UserError, match="goes on, but its state is not known: .*500: database is gone"):
        run(fake, package, wait=True, version_name="v2")


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        (["cfg={}", "epoch=3"], "the pipeline has no such parameter; did you mean 'epochs'?"),
        (["cfg={}", "zzz=3"], "it has cfg, epochs, lr, pool, slices, spot."),
        (["cfg"], "has no value; write NAME=VALUE"),
        (["cfg={}", "epochs=2.5"], "epochs=2.5 is not of type NUMBER_INTEGER"),
        (["cfg={}", "epochs=true"], "epochs=true is not of type NUMBER_INTEGER"),
        (["cfg={}", "spot=yes"], "spot=yes is not of type BOOLEAN"),
        (["cfg={}", "pool=[1]"], "pool=[1] is not of type STRUCT"),
        ([], "the pipeline needs --parameter cfg=…"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_sent(
    fake: FakeKfp, package: Path, parameter: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        run(fake, package, parameter=parameter)
    assert fake.requests == []


WRONG = [
    ("gpu_count=two", "this run: parameter.gpu_count = 'two' is refused (Input should be a valid integer"),
    ("gpu_memory_limit=lots", "parameter.gpu_memory_limit = 'lots' is refused"),
    ('cpu_tolerations=["spot"]', "parameter.cpu_tolerations.0 = 'spot' is refused"),
    ("claim=Not_A_Name", "parameter.claim = 'Not_A_Name' is refused"),
    ("shards=[1]", "parameter.shards.0 = 1 is refused (Input should be a valid string)"),
    ('shards=["1/3", "2/3"]', "must name every shard once, in order"),
    ("gate_cfg=not json", "parameter.gate_cfg = 'not json' is refused (Invalid JSON"),
    ('gate_cfg={"min_video": 3}', "parameter.gate_cfg.min_video is not a known key"),
]


@pytest.mark.parametrize("start", [run, plan])
def test_a_runs_parameters_are_checked_as_the_compiler_checks_them(fake: FakeKfp, tmp_path: Path, start: Any) -> None:
    compile(image="emd:abc", params=ROOT / "params/ffpp.yaml", out=tmp_path / "pipeline.yaml")
    for parameter, sentence in WRONG:
        with pytest.raises(UserError, match=re.escape(sentence)):
            start(fake, tmp_path / "pipeline.yaml", parameter=[parameter])
    assert fake.requests == []
    right = [
        "gpu_count=2",
        'shards=["1/2", "2/2"]',
        "cpu_memory_limit=1.5Gi",
        "claim=emd-data",
        'gpu_node_selector={"a": "b"}',
    ]
    start(fake, tmp_path / "pipeline.yaml", parameter=[*right, "merge_shards_cfg={}"])
    assert fake.runs or fake.recurring


FAULTS = [
    ("GET /healthz", refuse(401, "no token", 16), "cannot reach the server: .* refuses who asks .401: no token.; name"),
    ("GET /pipelines", refuse(403, "not in team-a", 7), "cannot list the pipelines: .*403: not in team-a.; name"),
    ("GET /healthz", Refusal(404, "404 page not found\n"), "has no Kubeflow Pipelines API v2beta1 .404.; mend"),
    ("GET /pipelines", Refusal(200, "<html>Log in</html>"), "cannot list the pipelines: .* answers with a web page"),
    ("POST /pipelines", refuse(500, "disk full", 13), "cannot create the pipeline emd: .* failed .500: disk full."),
    ("POST /pipelines/upload_version", Refusal(400, {"error_message": "too big"}), "upload version v1 .*400: too big"),
    ("POST /runs", refuse(400, "quota", 3), "version v1 is uploaded, but its run was not seen to start: .*400: quota"),
]


@pytest.mark.parametrize(("request_", "refusal", "sentence"), FAULTS, ids=lambda value: str(value)[:30])
def test_each_refusal_has_its_sentence(
    fake: FakeKfp, package: Path, request_: str, refusal: Refusal, sentence: str
) -> None:
    fake.faults = {request_: [refusal]}
    with pytest.raises(UserError, match=sentence):
        run(fake, package, version_name="v1")
    assert fake.runs == {}


def test_a_token_comes_from_the_file_that_kfp_names(
    fake: FakeKfp, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.token = "secret"
    with pytest.raises(UserError, match="401: Unauthenticated: request is missing a valid token"):
        run(fake, package)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(UserError, match="KF_PIPELINES_SA_TOKEN_PATH names .*token, which does not exist"):
        run(fake, package)
    (tmp_path / "token").write_text("secret\n")
    run(fake, package)
    assert len(fake.runs) == 1


def test_a_schedule_of_the_same_name_is_replaced(fake: FakeKfp, package: Path) -> None:
    plan(fake, package, version_name="v1")
    plan(fake, package, version_name="v2", cron="30 4 * * *", max_concurrency=2, catchup=True)
    plan(fake, package, version_name="v3", cron="@every 6h", name="often")
    weekly, often = fake.recurring.values()
    assert weekly["trigger"] == {"cron_schedule": {"cron": "0 30 4 * * *"}}
    assert (int(weekly["max_concurrency"]), weekly["no_catchup"]) == (2, False)
    assert (int(often["max_concurrency"]), often["no_catchup"]) == (1, True)
    version = fake.versions[weekly["pipeline_version_reference"]["pipeline_version_id"]]
    assert version["display_name"] == "v2"
    assert weekly["runtime_config"]["parameters"] == {"cfg": "{}"}


def test_a_schedule_is_listed_and_deleted(fake: FakeKfp, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(fake, package)
    schedule(show=True, endpoint=fake.url)
    assert "0 0 3 * * 1" in capsys.readouterr().out
    schedule(delete="emd", endpoint=fake.url)
    assert fake.recurring == {}
    with pytest.raises(UserError, match="has no schedule emd; "):
        schedule(delete="emd", endpoint=fake.url)


def test_a_wrong_cron_is_refused_and_the_old_schedule_stays(fake: FakeKfp, package: Path) -> None:
    plan(fake, package, version_name="v1")
    with pytest.raises(UserError, match="has 3 fields; give five as in crontab"):
        plan(fake, package, cron="0 3 *")
    sentence = "version v2 is uploaded, but schedule emd was not seen to change: .*cron is not a supported format"
    with pytest.raises(UserError, match=sentence):
        plan(fake, package, version_name="v2", cron="99 3 * * *")
    fake.faults = {"DELETE /recurringruns": [refuse(500, "busy", 13)]}
    with pytest.raises(UserError, match="schedule emd is there, but the one that it replaces is too: .*busy"):
        plan(fake, package, version_name="v3", cron="1 3 * * *")
    assert len(fake.recurring) == 2


def test_status_shows_the_last_runs_and_a_runs_tasks(
    fake: FakeKfp, package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(fake, package, run_name="first")
    run(fake, package, run_name="second", version_name="v2")
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline")
    capsys.readouterr()
    status(endpoint=fake.url)
    rows = [line for line in capsys.readouterr().out.splitlines() if "https://" in line]
    assert ["second" in rows[0], "first" in rows[1], len(rows)] == [True, True, 2]
    (run_id, *_) = fake.runs
    assert f"https://kubeflow.example/pipeline/#/runs/details/{run_id}" in rows[1]
    fake.progress = [("RUNNING", {"ingest": "SUCCEEDED", "crop": "RUNNING"})]
    status(run_id, endpoint=fake.url)
    table = capsys.readouterr().out
    assert re.search(r"ingest +│ SUCCEEDED +│ +│ +0:01:00", table)
    assert re.search(r"crop +│ RUNNING +│ +│ +│", table)
    assert not re.search(r"driver|executor|root|emd-x7k2p", table)
    with pytest.raises(UserError, match="has no run nowhere; `python -m pipelines status` lists the last ones"):
        status("nowhere", endpoint=fake.url)


UP_TO_CROPS = {"fetch-data": "SUCCEEDED", "ingest": "SUCCEEDED", "train-fer": "SUCCEEDED"}
DATA = UP_TO_CROPS | {
    "extract-frames": "SUCCEEDED 3/3",
    "crop-faces": "SUCCEEDED 3/3",
    "generate-masks": "SUCCEEDED 3/3",
    "merge-shards": "SUCCEEDED",
    "validate-data": "SUCCEEDED",
}
CACHED = {name: state.replace("SUCCEEDED", "CACHED") for name, state in DATA.items()} | {"fetch-data": "SUCCEEDED"}
LOOP = {"extract-frames": "CACHED 3/3", "crop-faces": "RUNNING 2/3", "generate-masks": "RUNNING 2/3"}
BEHIND = {"train-emd": "CACHED", "evaluate": "CACHED", "gate": "SUCCEEDED", "report": "SUCCEEDED"}
NOTIFIED = {"notify": "SUCCEEDED"}
DELETED = {"ingest": "CACHED", "train-fer": "CACHED", "extract-frames": "CACHED 3/3", "train-emd": "FAILED"}
# What a person reads of each run that a real server told: its stages, and since when the details are old.
RECORDED: dict[str, tuple[dict[str, str], str]] = {
    "running": (UP_TO_CROPS | {"ingest": "CACHED", "train-fer": "CACHED"} | LOOP, ""),
    "succeeded-promoted": (DATA | {"train-emd": "UNKNOWN"}, "14:15:47"),
    "succeeded-refused-cached": (CACHED | BEHIND | NOTIFIED, ""),
    "failed-first-task": ({"fetch-data": "FAILED"} | NOTIFIED, ""),
    "failed-in-the-loop": (
        UP_TO_CROPS | {"extract-frames": "SUCCEEDED 3/3", "crop-faces": "FAILED 0/3"} | NOTIFIED,
        "",
    ),
    "failed-pod-deleted": (DATA | DELETED | NOTIFIED, ""),
    "succeeded-details-stale": (DATA, "14:58:26"),
}
FAILED = {"failed-first-task": "fetch-data", "failed-in-the-loop": "crop-faces (0/3 shards)"}
FAILED |= {"failed-pod-deleted": "train-emd"}


@pytest.mark.parametrize("name", RECORDED)
def test_a_real_servers_run_reads_as_a_person_counts(
    fake: FakeKfp, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = recorded(name)
    fake.runs[told["run_id"]] = told
    status(told["run_id"], endpoint=fake.url)
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    shown, since = RECORDED[name]
    assert {stage: f"{state} {shards}".rstrip() for stage, state, shards, _ in rows} == shown
    assert [state in ("CACHED", "RUNNING", "UNKNOWN") for _, state, _, _ in rows] == [not t for *_, t in rows]
    assert (f"details stopped at 2026-11-28 {since} UTC" in said) if since else ("details stopped" not in said)
    assert ("Last change at 2026-11-28 " in said) != bool(since)


@pytest.mark.parametrize("name", RECORDED)
def test_waiting_for_a_real_servers_run(fake: FakeKfp, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = recorded(name)
    fake.runs[told["run_id"]] = told
    server, run_id = client.Server(fake.url), told["run_id"]
    if name == "running":
        with pytest.raises(UserError, match=f"run {run_id} is still RUNNING after 0 s; it goes on"):
            _wait(server, run_id, 0.01, 0)
    elif name in FAILED:
        with pytest.raises(typer.Exit):
            _wait(server, run_id, 0.01, 0)
    else:
        _wait(server, run_id, 0.01, 0)
    said = capsys.readouterr()
    shown, since = RECORDED[name]
    lines = {f"{state.split()[0]:<9}  {stage} {''.join(state.split()[1:])}".rstrip() for stage, state in shown.items()}
    assert lines <= set(said.out.splitlines()) and ("details stopped at" in said.out) == bool(since)
    assert (f"failed: {FAILED[name]}; see http" in said.err) if name in FAILED else (said.err == "")


def test_a_run_that_goes_on_while_its_details_stand_still(fake: FakeKfp) -> None:
    """The metadata of tasks that ended since give it away, once the server had a minute to tell."""
    told = recorded("succeeded-promoted") | {"state": "RUNNING"}
    fake.runs[told["run_id"]] = told
    assert "stopped at 2026-11-28 14:15:47 UTC" in stopped(client.Server(fake.url).run(told["run_id"]))
    rows = told["run_details"]["task_details"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows[-2:] = [rows[-1] | {"start_time": now, "end_time": now}]
    assert stopped(client.Server(fake.url).run(told["run_id"])) == ""


def command(endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KF_PIPELINES_ENDPOINT": endpoint}
    line = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("", "no server is named; set KF_PIPELINES_ENDPOINT or --endpoint, such as http://localhost:8080"),
        ("http://127.0.0.1:9", "cannot reach the server: http://127.0.0.1:9 is out of reach (Failed to establish"),
        ("localhost:9", "cannot reach the server: https://localhost:9 is out of reach (Failed to establish"),
    ],
    ids=["none", "down", "down, without a scheme"],
)
def test_no_server_is_one_sentence_and_exit_2(endpoint: str, sentence: str) -> None:
    result = command(endpoint, "status")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {sentence}")


def test_a_server_that_never_answers(fake: FakeKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=f"cannot reach the server: {address} gave no answer within 0.1 s"):
            status(endpoint=address)


def test_nothing_to_upload(fake: FakeKfp, package: Path) -> None:
    with pytest.raises(UserError, match="give --image and --params, or --package FILE"):
        run(fake, package=None)
    with pytest.raises(UserError, match="leave out --image, --params, --set and --pool"):
        run(fake, package, image="emd:abc")
