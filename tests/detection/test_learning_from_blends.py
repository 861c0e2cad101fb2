"""Training of a network that learns from blends: from originals alone, and the same after a kill."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emd_core.detection.crops import Batch, FaceCrops
from emd_core.detection.learner import LossOf
from emd_core.detection.training import train_emd
from emd_core.errors import Preempted, UserError
from emd_core.models.baselines.facexray import FaceXrayConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.storage.manifest import FACES, MASKS, read_manifest, write_manifest
from emd_core.training.resuming import STATE
from tests.fakes.processes import exit_code
from tests.fakes.training_data import EMD, write_training_data

NETWORK = FaceXrayConfig(kind="facexray", size=32, backbone="hrnet_w18_small")
CFG = EMD.model_copy(update={"network": NETWORK, "warmup_epochs": 0})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("data"))


def train(
    data: Path, work: Path, kill_at: int | None = None, save_minutes: float = 5, **changes: object
) -> list[dict[str, float]]:
    """`kill_at`: the step, of three in each epoch, before which the process is killed."""
    work.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    history: list[dict[str, float]] = []
    loss, steps = LossOf.forward, []

    def stopped(self: LossOf, *inputs: object) -> object:
        steps.append(1)
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, *inputs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LossOf, "forward", stopped)
        train_emd(
            CFG.model_copy(update=changes | {"save_minutes": save_minutes}),
            faces=data / "faces",
            masks=data / "masks",
            fer=None,
            work=work,
            on_epoch=lambda epoch, metrics: history.append(metrics),
        )
    return history


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("whole")
    history = train(data, work)
    assert len(history) == 2 and all(np.isfinite(epoch["train/loss"]) for epoch in history)
    return work


def test_a_training_stopped_before_its_first_step_starts_anew(data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGTERM while landmarks are searched."""
    batches = FaceCrops.batches

    def stopped(crops: FaceCrops, *arguments: Any) -> Iterator[Batch]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield from batches(crops, *arguments)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Preempted):
        patched.setattr(FaceCrops, "batches", stopped)
        train(data, tmp_path)
    assert not list(tmp_path.iterdir())
    train(data, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()


def test_no_fake_of_the_train_split_is_learnt_from(data: Path, whole: Path, tmp_path: Path) -> None:
    """Nothing changes when they do; when an original does, all does."""
    for method, same in (("Face2Face", True), ("original", False)):
        copy = tmp_path / method
        shutil.copytree(data, copy)
        table = read_manifest(copy / "masks", MASKS).table
        rows = table[(table["method"] == method) & (table["split"] == "train")]["row"]
        crops = np.load(copy / f"faces/{method}-c23.npy", mmap_mode="r+")
        crops[rows] = 255 - crops[rows]
        crops.flush()
        train(copy, copy / "work")
        assert ((copy / "work" / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()) == same


def test_a_training_killed_within_an_epoch_ends_with_the_same_model(data: Path, whole: Path, tmp_path: Path) -> None:
    work = tmp_path / "killed"
    assert exit_code(train, data, work, 5, 1e-9) == -signal.SIGKILL and (work / STATE).exists()
    train(data, work)
    assert (work / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()


def test_originals_of_one_target_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="originals of 1 target"):
        train(data, tmp_path / "work", targets=1, batch_size=2)


def test_a_split_without_originals_is_refused(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "masks", tmp_path / "masks")
    table = read_manifest(data / "masks", MASKS).table
    table.loc[table["split"] == "train", "method"] = "Face2Face"
    write_manifest(tmp_path / "masks", table, MASKS, {"faces": read_manifest(data / "faces", FACES)})
    (tmp_path / "faces").symlink_to(data / "faces")
    with pytest.raises(UserError, match="the train split of .* has no usable original"):
        train(tmp_path, tmp_path / "work")
