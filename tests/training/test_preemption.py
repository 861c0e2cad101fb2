"""SIGTERM, SIGKILL: a training that was stopped ends, when started again, as one that was left alone."""

import itertools
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from emd_core.detection import training as core
from emd_core.errors import Preempted
from emd_core.models.baselines.steganalysis import Steganalysis, SteganalysisConfig
from emd_core.models.multitask import MultiTask
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.training import resuming
from tests.fakes.training_data import ON, SMALL, train, write_training_data

STEPS = 3  # of an epoch; there are three epochs


SVM = SteganalysisConfig(kind="steganalysis", crop=48, size=32)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


class Steps:
    """Counts the steps of a training; in step `stop_in` sends SIGTERM to this process, in step `kill_in` ends it."""

    def __init__(self, patch: pytest.MonkeyPatch, stop_in: int | None = None, kill_in: int | None = None) -> None:
        self.done = 0
        loss = MultiTask.loss

        def counted(model: MultiTask, *arguments: Any) -> Any:
            self.done += 1
            if self.done == stop_in:
                os.kill(os.getpid(), signal.SIGTERM)
            if self.done == kill_in:
                raise Killed
            return loss(model, *arguments)

        patch.setattr(MultiTask, "loss", counted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, float]]]:
    """Data, the folder of a training that was left alone, and its metrics."""
    root = tmp_path_factory.mktemp("whole")
    data = write_training_data(root / "data")
    return data, root / "run", train(data, root / "run")


@pytest.mark.parametrize("step", [1, 3, 5], ids=["first step", "last step of the warm-up", "amid an epoch"])
def test_a_stopped_training_goes_on_with_the_next_step(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Mirroring, batch statistics and Adam's moments are as if nothing had happened: the bytes are equal.

    Dropout, too: test_every_kind.py.
    """
    data, finished, history = whole
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Preempted, match="goes on after its last step"):
        steps = Steps(patch, stop_in=step)
        train(data, tmp_path)
    assert steps.done == step
    assert signal.getsignal(signal.SIGTERM) is before
    rest = Steps(monkeypatch)
    assert train(data, tmp_path) == history
    assert rest.done == 3 * STEPS - step
    assert (tmp_path / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


@pytest.mark.parametrize(("every_s", "saved"), [(1, 4), (2, 4), (3, 3)])
def test_a_killed_training_goes_on_after_its_last_save(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_s: int, saved: int
) -> None:
    """Killed in the second step of the second epoch. The clock goes on by a second with each look: one at each step,
    one more where it is set again; after the first epoch all is saved anyway."""
    data, finished, history = whole
    clock = itertools.count()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(resuming, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        Steps(patch, kill_in=STEPS + 2)
        train(data, tmp_path, save_minutes=(every_s - 0.5) / 60)
    rest = Steps(monkeypatch)
    assert train(data, tmp_path) == history
    assert rest.done == 3 * STEPS - saved
    assert (tmp_path / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("reader", ["_first_images", "predict_all"], ids=["batch statistics", "validation"])
def test_a_training_stopped_behind_its_steps_repeats_none(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """SIGTERM comes with the first batch of two and more, and the second is not read."""
    data, read, seen = whole[0], getattr(core, reader), []

    def terminated(*arguments: Any) -> Iterator[Any]:
        for batch in read(*arguments):
            seen.append(batch)
            os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    history = train(data, tmp_path / "whole", recipe=ON)
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        patch.setattr(core, reader, terminated)
        train(data, tmp_path / "stopped", recipe=ON)
    assert len(seen) == 1
    rest = Steps(monkeypatch)
    assert train(data, tmp_path / "stopped", recipe=ON) == history
    assert rest.done == 2 * STEPS
    assert (tmp_path / "stopped" / CHECKPOINT).read_bytes() == (tmp_path / "whole" / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("moment", ["amid the crops", "after the fit"])
def test_a_network_that_learns_at_once_ends_as_if_not_stopped(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    cfg = SMALL.model_copy(update={"network": SVM, "warmup_epochs": 0})
    ways = {"faces": whole[0] / "faces", "masks": whole[0] / "masks", "fer": None}

    def run(name: str) -> list[dict[str, float]]:
        history: list[dict[str, float]] = []
        (tmp_path / name).mkdir(exist_ok=True)
        core.train_emd(cfg, **ways, work=tmp_path / name, on_epoch=lambda epoch, metrics: history.append(metrics))
        return history

    fit = Steganalysis.fit

    def stopped(model: Steganalysis, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        def counted() -> Iterator[tuple[Tensor, Tensor]]:
            for step, batch in enumerate(batches):
                if step == 1 and moment == "amid the crops":
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        loss = fit(model, counted())
        os.kill(os.getpid(), signal.SIGTERM)
        return loss

    alone = run("alone")
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        patched.setattr(Steganalysis, "fit", stopped)
        run("stopped")
    assert run("stopped") == alone
    assert (tmp_path / "stopped" / CHECKPOINT).read_bytes() == (tmp_path / "alone" / CHECKPOINT).read_bytes()
