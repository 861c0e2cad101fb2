"""Training by torchrun: two processes do what one does, and what one of them suffers the next start mends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.train_fer import train_fer
from emd_core.detection.training import train_emd
from emd_core.errors import UserError
from emd_core.models.baselines.steganalysis import SteganalysisConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.training import distributed
from emd_core.training.resuming import STATE
from tests.fakes.fer_data import FER
from tests.fakes.processes import code_of, start_script
from tests.fakes.training_data import EMD, ON, SMALL, train, write_training_data
from tests.house.contract import ROOT

# One epoch after one of the warm-up; each has three steps, then as many batches of statistics.
CFG = SMALL.model_copy(update={"epochs": 1, "recipe": ON, "workers": 1})
OUTPUT = ["curves.csv", "metrics.json", CHECKPOINT]
Launcher = Callable[[list[str], Path, dict[str, str]], tuple[int, str]]  # exit code, stderr


@dataclass(frozen=True)
class Run:
    """What a start of torchrun left: its output, and the rows of each rank, epoch and batch."""

    code: int
    errors: str
    model: Path
    rows: list[list[list[list[int]]]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def train_emd_by(
    launcher: Launcher,
    data: Path,
    folder: Path,
    stop: str = "",
    changes: dict[str, Any] | None = None,
    **variables: str,
) -> Run:
    """train_emd on the data; a second start in the same folder goes on. `changes`: other values of train_emd."""
    starts = len(list(folder.glob("rows*")))
    rows = folder / f"rows{starts}"
    rows.mkdir(parents=True)
    ports = [word for port in ("faces", "masks", "fer", "report") for word in (f"--{port}", str(data / port))]
    section = json.dumps(CFG.model_dump(mode="json") | (changes or {}))
    script = [str(ROOT / "tests/fakes/torchrun_training.py"), "train_emd", "--section", section, *ports]
    script += ["--model", f"{folder}/rank-{{rank}}/model"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{data}/mlflow-{{rank}}.db",
        "TRAINING_ROWS": str(rows),
        "TRAINING_STOP": stop or "none 0 0 self",
    }
    code, errors = launcher(script, folder, environment | variables)
    written = [[json.loads(line) for line in p.read_text().splitlines()] for p in sorted(rows.iterdir())]
    return Run(code, errors, folder / "rank-0/model", written)


def torchrun(script: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *script]
    given: dict[str, Any] = {"env": os.environ | environment, "cwd": folder, "timeout": 300}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **given)
    return done.returncode, done.stderr


def one(script: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """One process, as without torchrun."""
    code = code_of(start_script(script, folder, environment, folder / "errors"))
    return code, (folder / "errors").read_text()


def ranks(script: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Two processes, told what torchrun tells them. Where one fails, so does the other, whose group has lost it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = [
        start_script(
            script, folder, environment | shared | {"RANK": str(r), "LOCAL_RANK": str(r)}, folder / f"errors{r}"
        )
        for r in (0, 1)
    ]
    return max(abs(code_of(process)) for process in both), (folder / "errors0").read_text()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two processes that nobody disturbs."""
    run = train_emd_by(ranks, data, tmp_path_factory.mktemp("two"))
    assert run.code == 0, run.errors
    return run


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path) -> None:
    """Equal up to the order of sums in float32: 1e-4 of the losses after six steps of EMD, three with fixed layers."""
    emd = {"network": EMD.network.model_dump(mode="json")}
    alone, two = (
        train_emd_by(by, data, tmp_path / name, changes=emd, TRAINING_NORMS="fixed")
        for name, by in (("1", one), ("2", torchrun))
    )
    assert (alone.code, two.code) == (0, 0), alone.errors + two.errors
    (all_rows,), (first, second) = alone.rows, two.rows
    assert len(all_rows) == 2
    for epoch, batches in enumerate(all_rows):
        assert [sorted(a + b) for a, b in zip(first[epoch], second[epoch], strict=True)] == [sorted(b) for b in batches]
    assert len({json.dumps(batches) for batches in all_rows}) == len(all_rows), "each epoch has its own order"
    curves = [pd.read_csv(run.model / "curves.csv") for run in (alone, two)]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    assert curves[0]["train/loss"].nunique() == len(all_rows)


def test_only_rank_0_writes(data: Path, two: Run) -> None:
    assert [path.name for path in data.glob("mlflow*")] == ["mlflow-0.db"]
    root = two.model.parent.parent
    assert names(root) == ["errors0", "errors1", "rank-0", "rows0"]  # errors: of the launcher
    assert names(root / "rank-0") == ["model"]
    assert names(two.model) == OUTPUT


def test_a_killed_and_a_preempted_training_end_as_if_nothing_had_happened(data: Path, two: Run, tmp_path: Path) -> None:
    """Rank 1 is killed in the second of three steps of the second epoch; then torchrun is told to stop, there too; then
    rank 1, which validates nothing, in the second of three batches of the statistics."""
    killed = train_emd_by(ranks, data, tmp_path, f"1 8 {signal.SIGKILL:d} self")
    assert killed.code == signal.SIGKILL, killed.errors
    preempted = train_emd_by(torchrun, data, tmp_path, f"0 2 {signal.SIGTERM:d} torchrun")
    assert preempted.code not in (0, 2)
    assert "stopped: train_emd was stopped by SIGTERM; the same command goes on" in preempted.errors
    assert [[len(batches) for batches in rank] for rank in preempted.rows] == [[3]] * 2, "from the first whole epoch"
    assert not (tmp_path / "rank-0/model").exists()
    amid_statistics = train_emd_by(ranks, data, tmp_path, f"1 3 {signal.SIGTERM:d} self")
    assert amid_statistics.code == 143, amid_statistics.errors
    assert [[len(batches) for batches in rank] for rank in amid_statistics.rows] == [[1, 3]] * 2, "from the third step"
    restarted = train_emd_by(ranks, data, tmp_path)
    assert restarted.code == 0, restarted.errors
    assert [[len(batches) for batches in rank] for rank in restarted.rows] == [[0, 3]] * 2, "the statistics alone"
    assert (restarted.model / "curves.csv").read_text() == (two.model / "curves.csv").read_text()
    assert (restarted.model / CHECKPOINT).read_bytes() == (two.model / CHECKPOINT).read_bytes()


def test_ranks_save_together_when_it_is_time_on_one_of_them(data: Path, two: Run, tmp_path: Path) -> None:
    """It is on rank 1, after each batch (rank 0 would in a minute); then that is killed in the fifth step."""
    each_step = {"save_minutes": "1e-{rank}{rank}"}
    killed = train_emd_by(ranks, data, tmp_path, f"1 8 {signal.SIGKILL:d} self", each_step)
    assert killed.code not in (0, 2)
    restarted = train_emd_by(ranks, data, tmp_path, changes=each_step)
    assert restarted.code == 0, restarted.errors
    assert [[len(batches) for batches in rank] for rank in restarted.rows] == [[2, 3]] * 2, "from the fifth step"
    assert (restarted.model / CHECKPOINT).read_bytes() == (two.model / CHECKPOINT).read_bytes()


def test_sigterm_exits_with_143_and_one_sentence(data: Path, tmp_path: Path) -> None:
    """Without torchrun; what the next start needs is on the volume, which outlives the pod. That may be slower."""
    volume = {"EMD_CHECKPOINTS": str(tmp_path / "volume"), "EMD_PIPELINE_RUN": "run-7"}
    run = train_emd_by(one, data, tmp_path, f"0 2 {signal.SIGTERM:d} self", **volume)
    assert run.code == 143, run.errors
    (sentence,) = [line for line in run.errors.splitlines() if line.startswith("stopped: ")]  # a bar may be around it
    assert sentence.startswith("stopped: train_emd was stopped by SIGTERM")
    assert "Traceback" not in run.errors
    (partial,) = (tmp_path / "volume/run-7").iterdir()
    assert partial.name.startswith("model-") and names(partial) == [".resume-key", STATE, "mlflow-run"]
    assert not run.model.parent.exists()
    again = train_emd_by(one, data, tmp_path, changes={"workers": 0, "save_minutes": 7}, **volume)
    assert again.code == 0, again.errors
    assert [[len(batches) for batches in rank] for rank in again.rows] == [[1, 3, 3, 3]], "from the third step"


def test_a_batch_that_cannot_be_split_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(UserError, match="batch_size is 4, but torchrun started 3 processes; .* a multiple"):
        train(data, tmp_path)


def test_a_network_that_learns_at_once_is_trained_by_one_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SteganalysisConfig(kind="steganalysis", crop=48, size=32)
    cfg = EMD.model_copy(update={"network": network})
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(UserError, match="'steganalysis' learns from all crops at once, but torchrun started 2 proc"):
        train_emd(cfg, faces=data / "faces", masks=data / "masks", fer=None, work=tmp_path, on_epoch=lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_the_expression_network_is_trained_by_one_process(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "of torchrun")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun started train_fer as 2 processes, but it runs as one"):
        train_fer(FER, expressions=tmp_path, fer=tmp_path / "fer")
    assert list(tmp_path.iterdir()) == []
