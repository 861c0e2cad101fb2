"""Tiny crops, masks and an expression network to train on, as the stages before leave them."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from emd_core.detection.recipe import Recipe
from emd_core.detection.training import TrainEmd, train_emd
from emd_core.models.emd import EMDConfig
from emd_core.models.multitask import MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT, save_esr
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.storage.arrays import RowFiles
from emd_core.storage.manifest import FACES, MASKS, read_manifest, write_manifest
from emd_core.storage.masks import pack

SIZE = 48
ON = Recipe(damage=0.7, self_blends=0.4, average=0.5)
EMD = TrainEmd(
    seed=0,
    methods=None,
    qualities=None,
    targets=None,
    network=EMDConfig(kind="emd", size=SIZE, expression=True, atrous_rates=(1, 1, 1), pixel_loss="mean"),
    weights="random",
    warmup_epochs=1,
    epochs=2,
    batch_size=4,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    recipe=None,
    precision="fp32",
    workers=0,
    save_minutes=5,
)
# For how a training goes, whatever it trains: a third of the time. It has the expression stream, masks and batch norms,
# but no dropout, and nothing that the warm-up fixes.
SMALL = EMD.model_copy(update={"network": MultiTaskConfig(kind="multitask", size=SIZE, expression=True)})


def write_training_data(root: Path) -> Path:
    """Folders faces, masks, fer and report: noise as originals, noise with a smooth centre as fakes; 12 crops to
    train on."""
    rng = np.random.default_rng(0)
    rows = []
    for folder in ("faces", "masks"):
        (root / folder).mkdir(parents=True)
    with RowFiles(root / "faces", (SIZE, SIZE, 3)) as crops, RowFiles(root / "masks", (SIZE, SIZE // 8)) as masks:
        for i in range(20):
            label, split = i % 2, "train" if i < 12 else "val"
            crop, mask = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), np.zeros((SIZE, SIZE), bool)
            if label:
                mask[12:36, 12:36] = True
                crop[mask] = 128
            method = ("original", "Face2Face")[label]
            file = f"{method}-c23.npy"
            row = {name: "" for name in MASKS.names} | {"video": f"{method}/c23/{i:03}", "method": method}
            row |= {"label": label, "split": split, "quality": "c23", "target": f"{i:03}", "status": "ok"}
            row |= {"file": file, "row": crops.extend(file, crop[None]), "mask_share": float(mask.mean())}
            masks.extend(file, pack(mask)[None])
            numbers = ("frame", "width", "height", "crc32", "x", "y", "side", "score", "sharpness", "phash")
            rows.append(row | dict.fromkeys(numbers, i))
    table = pd.DataFrame(rows)
    write_manifest(root / "faces", table, FACES, {})
    write_manifest(root / "masks", table, MASKS, {"faces": read_manifest(root / "faces", FACES)})
    torch.manual_seed(0)
    save_esr(root / "fer" / CHECKPOINT, ESR(ESRConfig(size=54, branches=1)))
    (root / "report").mkdir()
    verdict = {"success": True, "masks": read_manifest(root / "masks", MASKS).id}
    (root / "report/validity.json").write_text(json.dumps(verdict))
    return root


def train(
    data: Path,
    work: Path,
    kill_after: int | None = None,
    save_minutes: float = EMD.save_minutes,
    recipe: Recipe | None = None,
    cfg: TrainEmd = SMALL,
) -> list[dict[str, float]]:
    work.mkdir(exist_ok=True)
    history: list[dict[str, float]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        history.append(metrics)
        if epoch == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    cfg = cfg.model_copy(update={"save_minutes": save_minutes, "recipe": recipe})
    train_emd(
        cfg, faces=data / "faces", masks=data / "masks", fer=data / "fer" / CHECKPOINT, work=work, on_epoch=on_epoch
    )
    return history
