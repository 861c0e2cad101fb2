"""Stages that run as processes of their own must meet under one run of the pipeline."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from requests import HTTPError

from components.tracking import delivery, provenance
from components.tracking.outbox import Outbox, root
from components.tracking.run import EXPERIMENT, RUN, find_model, flatten, stage_run
from components.tracking.server import connect
from emd_core.config import Config
from emd_core.errors import Preempted, UserError

REPOSITORY = Path(__file__).parents[2]


class Optimiser(Config):
    lr: float


class Train(Config):
    epochs: int
    optimiser: Optimiser


CFG = Train(epochs=3, optimiser=Optimiser(lr=0.001))
STAGE = """
import sys
import mlflow
from components.tracking.run import stage_run
from emd_core.config import Config
with stage_run(sys.argv[1], Config(), {}):
    mlflow.log_metric("train/loss", 0.5, step=1)
    if sys.argv[2] == "fails":
        raise ValueError("the stage went wrong")
"""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow fills in a new database for seconds: here once, to be copied."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments(max_results=1)
    return database


@pytest.fixture
def store(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty sqlite store, and no trace of the surroundings' variables."""
    uri = f"sqlite:///{shutil.copy(empty, tmp_path)}"
    for name in ("DVC_EXP_NAME", "EMD_PIPELINE_RUN", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    return uri


def runs() -> list[mlflow.entities.Run]:
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return mlflow.MlflowClient().search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def run_stage(name: str, end: str) -> int:
    environment = {**os.environ, "EMD_PIPELINE_RUN": "nightly"}
    command = [sys.executable, "-c", STAGE, name, end]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    print(done.stderr)  # shown where the test fails
    return done.returncode


def test_two_processes_share_one_parent(store: str) -> None:
    assert run_stage("train_emd", "works") == 0
    assert run_stage("evaluate", "fails") == 1
    parent, train, evaluate = runs()
    assert parent.data.tags["pipeline"] == "nightly"
    assert train.data.tags["mlflow.parentRunId"] == evaluate.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [train.data.tags["stage"], evaluate.data.tags["stage"]] == ["train_emd", "evaluate"]
    assert [train.info.status, evaluate.info.status, parent.info.status] == ["FINISHED", "FAILED", "FAILED"]
    assert train.data.metrics["train/loss"] == 0.5


def test_pipelines_are_compared_by_their_own_run(store: str) -> None:
    with stage_run("train_emd", CFG, {}):
        pass
    with stage_run("evaluate", Config(), {}) as run:
        run.log_summary({"test/Face2Face/c23/miou": 0.9})
    with stage_run("train_emd", CFG.model_copy(update={"epochs": 4}), {}):
        pass
    parent, *_, again = runs()
    assert parent.data.params == {"train_emd.epochs": "3", "train_emd.optimiser.lr": "0.001"}
    assert parent.data.metrics == {"test/Face2Face/c23/miou": 0.9}
    assert again.data.params["epochs"] == "4"
    assert parent.data.tags["params.differ"].startswith("train_emd ran again with other values")


def test_the_key_separates_pipelines(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("exp-a", "exp-b", "exp-a"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        with stage_run("gate", CFG, {}):
            pass
    assert [run.data.tags["pipeline"] for run in runs() if "pipeline" in run.data.tags] == ["exp-a", "exp-b"]
    assert sum(run.data.tags.get("DVC_EXP_NAME") == "exp-a" for run in runs()) == 2


def test_a_schedulers_run_is_used(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient()
    task = client.create_run(client.create_experiment("kubeflow")).info
    monkeypatch.setenv("MLFLOW_RUN_ID", task.run_id)
    with stage_run("gate", CFG, {}) as run:
        assert mlflow.get_run(run.run_id).info.experiment_id == task.experiment_id
        assert run.tags["mlflow.parentRunId"] == task.run_id
    assert mlflow.get_experiment_by_name(EXPERIMENT) is None


def test_parameters_are_logged_flat(store: str) -> None:
    with stage_run("train_emd", CFG, {}) as run:
        pass
    assert mlflow.get_run(run.run_id).data.params == {"epochs": "3", "optimiser.lr": "0.001"}
    assert flatten({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}


def test_artifacts_lie_beside_the_store(store: str, tmp_path: Path) -> None:
    with stage_run("evaluate", CFG, {}):
        mlflow.log_text("seen", "note.txt")
    (note,) = tmp_path.glob("mlartifacts/**/note.txt")
    assert note.read_text() == "seen"


def test_all_that_a_run_shows(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MLflow's own calls would have left it: the UI must find pictures, tables, data and models where it looks."""
    monkeypatch.chdir(tmp_path)
    crop = np.full((30, 40, 3), 200, np.uint8)
    (tmp_path / "page").mkdir()
    (tmp_path / "page/report.html").write_text("<p>")
    with stage_run("train_emd", CFG, {}, name="train_emd emd 96 px") as run:
        for step in range(3):
            run.log_metrics({"train/loss": 1.0 / (1 + step)}, step)
            run.log_image(crop, "val overlays/a b", step)
        run.log_artifacts(tmp_path / "page", "pages")
        run.log_table(pd.DataFrame({"video": ["x", "y"], "crop": pd.Series([crop, crop], dtype=object)}), "worst")
        data = run.log_input(tmp_path / "data/masks", "d1g35t", rows=12, context="test")
        run.log_model("abc", "emd", {"lr": 1e-3})
        run.log_metrics({"test/acc": 0.75}, model="abc", data=data)
    client, found = mlflow.MlflowClient(), mlflow.get_run(run.run_id)
    assert found.info.run_name == "train_emd emd 96 px"
    assert [p.step for p in client.get_metric_history(run.run_id, "train/loss")] == [0, 1, 2]
    pictures = [a.path for a in client.list_artifacts(run.run_id, "images")]
    assert sorted({tuple(p.split("+")[:3]) for p in pictures}) == [
        ("images/val overlays~a b", "step", str(step)) for step in range(3)
    ]
    png = mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path=next(p for p in pictures if ".png" in p))
    assert (np.asarray(Image.open(png)) == crop).all()
    assert [a.path for a in client.list_artifacts(run.run_id, "pages")] == ["pages/report.html"]
    table = mlflow.load_table("worst.json", [run.run_id])
    assert table["video"].tolist() == ["x", "y"]
    cell = table["crop"][0]
    assert cell["type"] == "image"
    assert {cell["filepath"], cell["compressed_filepath"]} <= {
        a.path for a in client.list_artifacts(run.run_id, "table_images/worst")
    }
    (read,) = found.inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest, read.dataset.source_type) == ("data/masks", "d1g35t", "dvc")
    assert json.loads(read.dataset.source)["uri"] == "dvc://data/masks"
    (made,) = found.outputs.model_outputs
    assert made.model_id == find_model("abc") and find_model("other") is None
    model = client.get_logged_model(made.model_id)
    assert (model.name, str(model.status), model.tags["model.digest"]) == ("emd", "READY", "abc")
    (figure,) = model.metrics
    assert (figure.key, figure.value, figure.dataset_digest) == ("test/acc", 0.75, "d1g35t")
    assert client.get_run(found.data.tags["mlflow.parentRunId"]).info.run_name.endswith(f" by {provenance.user()}")
    assert not (tmp_path / ".mlflow-outbox").exists()


def test_what_a_server_refuses_costs_nothing_else(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with stage_run("train_emd", CFG, {}) as run:
        run.log_metrics({"good": 1.0, "bad$name": 2.0})
        run.log_metrics({"later": 3.0})
    assert {"good": 1.0, "later": 3.0}.items() <= mlflow.get_run(run.run_id).data.metrics.items()
    assert "refused 1 of what was logged for good" in capsys.readouterr().err
    (line,) = (tmp_path / ".mlflow-outbox" / run.run_id / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["values"] == {"bad$name": 2.0}


def test_a_stopped_training_goes_on_in_its_run(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epochs that it finished are logged again when it goes on, as the training itself does, and are there once."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Preempted), stage_run("train_emd", CFG, {}, resume=tmp_path / RUN) as first:
        first.log_metrics({"train/loss": 0.5}, 0)
        raise Preempted("stopped")
    assert mlflow.get_run(first.run_id).info.status == "KILLED"
    with stage_run("train_emd", CFG.model_copy(update={"epochs": 4}), {}, resume=tmp_path / RUN) as second:
        second.log_metrics({"train/loss": 0.5}, 0)
        second.log_metrics({"train/loss": 0.25}, 1)
    assert second.run_id == first.run_id
    points = mlflow.MlflowClient().get_metric_history(first.run_id, "train/loss")
    assert [(p.step, p.value) for p in points] == [(0, 0.5), (1, 0.25)]
    ended = mlflow.get_run(first.run_id)
    assert ended.info.status == "FINISHED" and ended.data.params["epochs"] == "3"
    assert ended.data.tags["params.differ"].startswith("train_emd went on with other values")
    (tmp_path / RUN).write_text("0" * 32)  # a run that this server never had
    with stage_run("train_emd", CFG, {}, resume=tmp_path / RUN) as third:
        pass
    assert (tmp_path / RUN).read_text() == third.run_id != first.run_id


def test_secrets_stay_out_of_the_outbox_and_of_errors(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that takes the run and is then away: all is kept, and nothing of the password."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    taken = Taken()
    with taken.serving() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:p@ssw0rd#2 ü@127.0.0.1:{port}")
        server = connect()
    assert server == f"http://127.0.0.1:{port}" == os.environ["MLFLOW_TRACKING_URI"]
    assert taken.credentials == {"me:p@ssw0rd#2 ü"}
    with pytest.raises(UserError) as refused:
        connect()
    assert "does not answer; start it" in str(refused.value)
    box = Outbox(tmp_path / ".mlflow-outbox" / "r", {"run": "r", "name": "n", "server": server, "experiment": "1"})
    box.append({"kind": "tags", "tags": {"a": "b"}})
    sender = delivery.Sender(mlflow.MlflowClient(), [box], print)
    sender.start()
    assert not sender.finish()
    kept = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert '"a": "b"' in kept and "ssw0rd" not in kept + str(refused.value) + capsys.readouterr().out


class Taken:
    """A server that says yes to all, and remembers who asked."""

    def __init__(self) -> None:
        self.credentials: set[str] = set()

    @contextmanager
    def serving(self) -> Iterator[int]:
        taken = self

        class Yes(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                said = self.headers.get("Authorization", "").removeprefix("Basic ")
                taken.credentials.add(base64.b64decode(said).decode())
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", 0), Yes)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield int(made.server_address[1])
        made.shutdown()
        made.server_close()


@pytest.mark.parametrize(
    "error", [HTTPError("413 Client Error: too large"), mlflow.MlflowException("error code 413 !")]
)
def test_what_is_too_large_for_a_proxy_does_not_hold_up_the_rest(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large.bin").write_bytes(b"0")

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch, stage_run("train_emd", CFG, {}) as run:
        patch.setattr(mlflow.MlflowClient, "log_artifact", refuse)
        run.log_artifact(tmp_path / "large.bin")
        run.set_tags({"behind": "it"})
        deadline = time.monotonic() + 30
        while "behind" not in mlflow.get_run(run.run_id).data.tags and time.monotonic() < deadline:
            time.sleep(0.2)
    assert mlflow.get_run(run.run_id).data.tags["behind"] == "it"
    refused = (tmp_path / ".mlflow-outbox" / run.run_id / "refused.jsonl").read_text()
    assert "large.bin" in refused and "413" in refused


def test_runs_of_a_temporary_checkout_are_the_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` and its queue work below .dvc/tmp/exps, and remove what lies there."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    here = tmp_path / "a%2Fb #ü"
    for place in (here, here / ".dvc/tmp/exps/standalone/tmp1", here / ".dvc/tmp/exps/tmp2"):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        assert root() == here / ".mlflow-outbox"
        with stage_run("gate", CFG, {}) as run:
            run.log_artifact(Path(__file__), "kept")
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    assert sum(found.data.tags.get("stage") == "gate" for found in runs()) == 3
    assert len(list((here / "mlartifacts").rglob("test_tracking.py"))) == 3
    assert not [path for path in (here / ".dvc").rglob("*") if path.is_file()]
