"""Every kind of detector learns, and a training of it that was stopped ends as one that was not."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emd_core.detection import training as core
from emd_core.detection.crops import FaceCrops
from emd_core.detection.inference import predict_all
from emd_core.detection.training import TrainEmd, train_emd
from emd_core.errors import Preempted
from emd_core.models.checkpoint import load_detector
from emd_core.models.parts.checkpoint import CHECKPOINT
from tests.fakes.kinds import KINDS, training_of
from tests.fakes.training_data import EMD, write_training_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("data"))


def short(name: str, epochs: int) -> TrainEmd:
    cfg = training_of(name)
    network = EMD.network if cfg.network.kind == "emd" else cfg.network  # at half the side it takes half the time
    changes = {"warmup_epochs": 0, "epochs": epochs, "batch_size": 4, "lr": 3e-4, "precision": "fp32"}
    return cfg.model_copy(update=changes | {"network": network})


def train(cfg: TrainEmd, data: Path, work: Path) -> list[dict[str, float]]:
    work.mkdir(exist_ok=True)
    history: list[dict[str, float]] = []
    inputs = {"faces": data / "faces", "masks": data / "masks", "fer": data / "fer" / CHECKPOINT}
    train_emd(cfg, **inputs, work=work, on_epoch=lambda epoch, metrics: history.append(metrics))
    return history


def stop_before(batch: int, patch: pytest.MonkeyPatch) -> None:
    """SIGTERM as the given batch is read, counted over the epochs."""
    read, count = core.training_inputs, 0

    def stopping(*arguments: Any) -> Iterator[Any]:
        nonlocal count
        for inputs in read(*arguments):
            count += 1
            if count == batch:
                os.kill(os.getpid(), signal.SIGTERM)
            yield inputs

    patch.setattr(core, "training_inputs", stopping)


@pytest.mark.parametrize("name", KINDS)
def test_a_stopped_training_ends_with_the_same_bytes(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped amid the second epoch: what is drawn at random, batch statistics and moments go on as they were."""
    torch.set_num_threads(1)
    cfg = short(name, epochs=2)
    whole = train(cfg, data, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        stop_before(5, patch)
        train(cfg, data, tmp_path / "stopped")
    assert train(cfg, data, tmp_path / "stopped") == whole
    files = [(tmp_path / run / CHECKPOINT).read_bytes() for run in ("whole", "stopped")]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", KINDS)
def test_it_learns(name: str, data: Path, tmp_path: Path) -> None:
    """Noise from noise with a smooth centre: of the 12 crops it was trained on at least 11 are told rightly.

    A coin does that in one of 315 tries. Some need more epochs than others; each time the training goes on. What learns
    from blends alone never saw these fakes: its loss must fall.
    """
    torch.set_num_threads(1)
    assert any(
        has_learned(train(short(name, epochs), data, tmp_path), data, tmp_path) for epochs in (8, 12, 20, 32, 72)
    )


def has_learned(history: list[dict[str, float]], data: Path, work: Path) -> bool:
    model = load_detector(work / CHECKPOINT)
    if model.learns_from_blends:
        return history[-1]["train/loss"] < 0.7 * history[0]["train/loss"]
    crops = FaceCrops(data / "faces", data / "masks", "train")
    answers = [(score > 0.5) == batch.label.numpy() for batch, score, _ in predict_all(model, crops, 4, "fp32")]
    return int(np.concatenate(answers).sum()) >= 11
