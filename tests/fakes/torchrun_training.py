"""`python -m components train_emd …` for test_distributed.py.

Each rank writes the rows of its steps, and of its batch statistics after them, to $TRAINING_ROWS; "{rank}" in an
argument or in MLflow's address is its rank. $TRAINING_STOP is "<rank> <batch> <signal> <self|torchrun>": in that batch
of that rank, of a step or of the statistics, the signal goes to that process. With $TRAINING_NORMS "fixed" the split of
a batch has no effect: batch norms keep their statistics and dropout drops nothing, as on CPUs both would see only a
rank's share.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from components.__main__ import main
from components.command_line.exits import exit_on_user_error
from emd_core.detection import training as core
from emd_core.detection.loading import rank_share
from emd_core.models.detector import Detector
from emd_core.models.emd import EMD
from emd_core.models.multitask import MultiTask

RANK = os.environ.get("RANK", "0")
ROWS = Path(os.environ["TRAINING_ROWS"])
stop_rank, stop_batch, stop_signal, stop_whom = os.environ["TRAINING_STOP"].split()
load, set_trainable, first_images = core.load, core.set_trainable, core._first_images
batches = 0


def count() -> None:
    global batches
    batches += 1
    if (RANK, batches) == (stop_rank, int(stop_batch)):
        os.kill(os.getpid() if stop_whom == "self" else os.getppid(), int(stop_signal))


def stop_in(kind: type[Detector]) -> None:
    loss = kind.loss

    def stopped(model: Detector, *inputs: Any) -> Any:
        count()
        return loss(model, *inputs)

    kind.loss = stopped  # type: ignore[method-assign]


def counted(*arguments: Any) -> Any:
    for images in first_images(*arguments):
        count()
        yield images


def recorded(crops: Any, order: np.ndarray, batch_size: int, recipe: Any, seed: Any, done: int, *more: Any) -> Any:
    with (ROWS / f"{RANK}.jsonl").open("a") as file:
        file.write(json.dumps(order[rank_share(np.arange(len(order)), batch_size, done)].tolist()) + "\n")
    return load(crops, order, batch_size, recipe, seed, done, *more)


def without_chance(model: Any, *, warmup: bool) -> None:
    set_trainable(model, warmup=warmup)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()


for kind in (EMD, MultiTask):
    stop_in(kind)
core.load, core._first_images = recorded, counted
if os.environ.get("TRAINING_NORMS") == "fixed":
    core.set_trainable = without_chance
torch.set_num_threads(1)
sys.argv = [argument.replace("{rank}", RANK) for argument in sys.argv]
os.environ["MLFLOW_TRACKING_URI"] = os.environ["MLFLOW_TRACKING_URI"].replace("{rank}", RANK)
exit_on_user_error(main)
