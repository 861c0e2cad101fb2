"""Parameters, faces and a start of the expression network's training, for its tests."""

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import torch

from emd_core.expressions.training import BranchByBranch, Joint, TrainFer, train_fer
from emd_core.models.parts.esr import ESRConfig

JOINT = Joint(kind="joint", epochs=2, lr=1e-3, augment=True)
ONE_BY_ONE = BranchByBranch(
    kind="branch_by_branch",
    first_epochs=3,
    epochs=2,
    lr=0.02,
    old_lr=0.01,
    momentum=0.9,
    lr_step=1,
    lr_gamma=0.5,
    images_per_class=2,
    validate_every=2,
)
FER = TrainFer(seed=0, network=ESRConfig(size=54, branches=1), recipe=JOINT, batch_size=8, precision="fp32", workers=0)
TWO = FER.model_copy(update={"recipe": ONE_BY_ONE, "network": ESRConfig(size=54, branches=2)})


def write_newer(root: Path, train: int = 4, val: int = 1) -> Path:
    """Eight brightnesses as eight expressions; category 8 is no expression."""
    rng = np.random.default_rng(0)
    for folder, n in (("train_set", train), ("val_set", val)):
        (root / folder / "images").mkdir(parents=True)
        (root / folder / "annotations").mkdir()
        for label in range(9):
            for k in range(n):
                image = np.clip(30 * label + rng.normal(0, 3, (60, 60, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / folder / "images" / f"{label}{k}.jpg"), image)
                np.save(root / folder / "annotations" / f"{label}{k}_exp.npy", str(label))
    return root


def train(cfg: TrainFer, expressions: Path, work: Path, kill_after: int | None = None) -> list[dict[str, float]]:
    work.mkdir(exist_ok=True)
    history: list[dict[str, float]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        assert epoch == len(history)
        history.append(metrics)
        if epoch == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    train_fer(cfg, expressions=expressions, work=work, on_epoch=on_epoch)
    return history
