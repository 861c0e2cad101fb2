"""Stages that run as processes of their own must meet under one run of the pipeline."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from components.tracking import EXPERIMENT, flatten, stage_run
from emd_core.config import Config

REPOSITORY = Path(__file__).parents[1]


class Optimiser(Config):
    lr: float


class Train(Config):
    epochs: int
    optimiser: Optimiser


CFG = Train(epochs=3, optimiser=Optimiser(lr=0.001))
STAGE = """
import sys
import mlflow
from components.tracking import stage_run
from emd_core.config import Config
with stage_run(sys.argv[1], Config(), {}):
    mlflow.log_metric("train/loss", 0.5, step=1)
    if sys.argv[2] == "fails":
        raise ValueError("the stage went wrong")
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty sqlite store, and no trace of the surroundings' variables."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
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
    return subprocess.run(
        [sys.executable, "-c", STAGE, name, end], cwd=REPOSITORY, env=environment, capture_output=True
    ).returncode


def test_two_processes_share_one_parent(store: str) -> None:
    assert run_stage("train_emd", "works") == 0
    assert run_stage("evaluate", "fails") == 1
    parent, train, evaluate = runs()
    assert parent.data.tags["pipeline"] == "nightly"
    assert train.data.tags["mlflow.parentRunId"] == evaluate.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [train.data.tags["stage"], evaluate.data.tags["stage"]] == ["train_emd", "evaluate"]
    assert [train.info.status, evaluate.info.status, parent.info.status] == ["FINISHED", "FAILED", "FAILED"]
    assert train.data.metrics == {"train/loss": 0.5}


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
