"""Training of the expression network: the first loop of Algorithm 1, all branches together or one after another."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Subset
from torchvision.transforms import v2
from tqdm import tqdm

from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.expressions.faces import ExpressionFaces
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr, save_esr
from emd_core.models.parts.esr import ESR, EXPRESSIONS, ESRConfig, vote
from emd_core.models.parts.losses import expression_loss
from emd_core.models.parts.precision import Precision, autocast, pick_device, to_input
from emd_core.models.parts.published_esr import load_published_esr
from emd_core.storage.atomic import atomic_file
from emd_core.training.batches import Batches
from emd_core.training.resuming import STATE, EpochHook, Preemption, Resumable, WatchHook, unwatched

PHASES = "phases"  # folder of the phases' states and best models, of no use once the training is over


class Joint(Config):
    """All branches together, with Adam."""

    kind: Literal["joint"]
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0)
    augment: bool = Field(description="Whether images are augmented as in the published training.")


class BranchByBranch(Config):
    """The published recipe: one branch after another, with SGD; each gets its own draw of the training images."""

    kind: Literal["branch_by_branch"]
    first_epochs: int = Field(ge=1, description="Of the first branch; 50 as published.")
    epochs: int = Field(ge=1, description="Of each further branch; 20 as published.")
    lr: float = Field(gt=0, description="Of the newest branch, and of the base while it has one branch; 0.1.")
    old_lr: float = Field(gt=0, description="Of the base and the older branches once a branch is added; 0.01.")
    momentum: float = Field(ge=0, lt=1, description="0.9 as published.")
    lr_step: int = Field(ge=1, description="Epochs of a phase between two cuts of its learning rates; 10.")
    lr_gamma: float = Field(gt=0, le=1, description="What a cut multiplies them by; 0.5.")
    images_per_class: int = Field(ge=1, description="At most so many per class are drawn for a branch; 5000.")
    validate_every: int = Field(ge=1, description="Epochs; a phase's last epoch is always validated; 2.")


class Published(Config):
    """No training: the published weights, judged on the validation faces."""

    kind: Literal["published"]
    folder: str = Field(description="Holds Net-Base-Shared_Representations.pt and Net-Branch_1.pt onwards.")


class TrainFer(Config):
    """Section train_fer of params.yaml."""

    seed: int = Field(ge=0)
    network: ESRConfig
    recipe: Joint | BranchByBranch | Published = Field(discriminator="kind")
    batch_size: int = Field(ge=2)
    precision: Precision
    workers: int = Field(ge=0, description="Processes that decode and augment images; 0 = in the training process.")


@dataclass(frozen=True)
class Phase:
    """Epochs with one optimizer, on one draw of the images; starts from the best model of the phase before."""

    branches: int  # the first so many learn
    epochs: int
    lrs: tuple[float, ...]  # of the base, then of each of these branches
    lr_step: int
    lr_gamma: float
    images_per_class: int | None  # None: all images
    validate_every: int

    def lrs_at(self, epoch: int) -> list[float]:
        """The learning rates in the phase's epoch `epoch`, from 0."""
        return [lr * self.lr_gamma ** (epoch // self.lr_step) for lr in self.lrs]

    def validates(self, epoch: int) -> bool:
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs


def phases(recipe: Joint | BranchByBranch, branches: int) -> list[Phase]:
    """The phases that train a network of `branches` branches."""
    if isinstance(recipe, Joint):
        return [Phase(branches, recipe.epochs, (recipe.lr,) * (1 + branches), recipe.epochs, 1.0, None, 1)]
    r = recipe
    rest = (r.lr_step, r.lr_gamma, r.images_per_class, r.validate_every)
    further = [Phase(n, r.epochs, (r.old_lr,) * n + (r.lr,), *rest) for n in range(2, branches + 1)]
    return [Phase(1, r.first_epochs, (r.lr, r.lr), *rest), *further]


def train_fer(
    cfg: TrainFer, *, expressions: Path, work: Path, on_epoch: EpochHook, watch: WatchHook = unwatched
) -> None:
    """Leave the best model by the ensemble's validation accuracy in `work / CHECKPOINT`.

    `on_epoch` is called after each epoch with its metrics; epochs without validation have no val/*. A run that was
    killed goes on from its last epoch when called again with the same `work`, and ends with the same weights as one
    that was not. SIGTERM raises Preempted after the step; nothing is saved then, as an epoch takes minutes at most.
    """
    val = ExpressionFaces(expressions, "val", cfg.network.size)
    if isinstance(cfg.recipe, Published):
        model = published(cfg.recipe, cfg.network).to(pick_device())
        save_esr(work / CHECKPOINT, model)
        on_epoch(0, {"train/branches": float(cfg.network.branches), **validate(model, val, cfg)})
        return
    augments = isinstance(cfg.recipe, BranchByBranch) or cfg.recipe.augment
    train = ExpressionFaces(expressions, "train", cfg.network.size, augment=augmentation() if augments else None)
    torch.manual_seed(cfg.seed)
    model = ESR(cfg.network).to(pick_device()).to(memory_format=torch.channels_last)
    first, best = 0, work  # number of the phase's first epoch, and where the phase before left its best model
    with Preemption("train_fer was stopped by SIGTERM; the same command goes on after its last whole epoch.") as stop:
        for number, phase in enumerate(phases(cfg.recipe, cfg.network.branches), start=1):
            # Each phase keeps its state and its best model apart. Were there one file of the best model, a run killed
            # after its first write in a phase could not start that phase again.
            folder = work / PHASES / str(number)
            if number > 1:
                model.load_state_dict(load_esr(best).state_dict())
            best = folder / CHECKPOINT
            subset = draw(train, phase.images_per_class, np.random.default_rng([cfg.seed, number]))
            if len(subset) < cfg.batch_size:
                raise UserError(
                    f"{expressions} has {len(subset)} training images; it needs at least one batch "
                    f"(train_fer.batch_size is {cfg.batch_size})."
                )
            optimizer = make_optimizer(cfg.recipe, model, phase)
            state = Resumable(folder / STATE, model, optimizer)
            for epoch, metrics in enumerate(state.restore()):
                on_epoch(first + epoch, metrics)
            loader = Batches(subset, cfg.batch_size, shuffle=True, drop_last=True, num_workers=cfg.workers)
            for epoch in range(len(state.history), phase.epochs):
                # An epoch does not depend on the random numbers of those before it: it can be resumed.
                torch.manual_seed(cfg.seed + 1 + first + epoch)
                for group, lr in zip(optimizer.param_groups, phase.lrs_at(epoch), strict=True):
                    group["lr"] = lr
                title = f"train_fer, {phase.branches} branches, epoch {epoch + 1}/{phase.epochs}"
                started = time.perf_counter()
                loss = _train_epoch(model, optimizer, tqdm(loader, title), phase.branches, cfg, stop, state)
                speed = len(loader) * cfg.batch_size / (time.perf_counter() - started)
                metrics = {"train/loss": loss, "train/branches": float(phase.branches)}
                if phase.validates(epoch):
                    metrics |= validate(model, val, cfg, phase.branches)
                    if state.is_best(metrics["val/accuracy"]):
                        save_esr(best, model)
                state.save(metrics)
                base, *_, newest = (group["lr"] for group in optimizer.param_groups)
                figures = {"train/lr": newest, "train/lr_base": base, "train/images_per_second": speed}
                watch(first + epoch, model, figures)
                on_epoch(first + epoch, metrics)
            first += phase.epochs
    with atomic_file(work / CHECKPOINT) as temporary:
        shutil.copyfile(best, temporary)


def published(recipe: Published, network: ESRConfig) -> ESR:
    """The published network, which must be the one that the parameters describe."""
    model = load_published_esr(Path(recipe.folder))
    if model.config != network:
        raise UserError(
            f"train_fer.network is size {network.size} with {network.branches} branches, but {recipe.folder} holds "
            f"size {model.config.size} with {model.config.branches}; make train_fer.network agree with the files."
        )
    return model


def draw(train: ExpressionFaces, images_per_class: int | None, rng: np.random.Generator) -> Subset[tuple[Tensor, int]]:
    """At most so many random images of each class, without repetition; None = all images."""
    if images_per_class is None:
        return Subset(train, range(len(train)))
    classes = [rng.permutation(np.flatnonzero(train.labels == k))[:images_per_class] for k in range(len(EXPRESSIONS))]
    return Subset(train, np.concatenate(classes).tolist())


def make_optimizer(recipe: Joint | BranchByBranch, model: ESR, phase: Phase) -> torch.optim.Optimizer:
    """One parameter group for the base, then one for each branch that learns."""
    parts = [model.base, *list(model.branches)[: phase.branches]]
    groups = [{"params": list(part.parameters()), "lr": lr} for part, lr in zip(parts, phase.lrs, strict=True)]
    return torch.optim.Adam(groups) if isinstance(recipe, Joint) else torch.optim.SGD(groups, momentum=recipe.momentum)


def augmentation() -> v2.Compose:
    """The augmentation of the published training."""
    return v2.Compose(
        [
            v2.ColorJitter(brightness=0.5, contrast=0.5),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(30, translate=(0.1, 0.1), scale=(1.0, 1.25), interpolation=v2.InterpolationMode.BILINEAR),
        ]
    )


def _train_epoch(
    model: ESR,
    optimizer: torch.optim.Optimizer,
    batches: tqdm,
    branches: int,
    cfg: TrainFer,
    stop: Preemption,
    state: Resumable,
) -> float:
    """One pass over the batches; the mean loss."""
    model.train()
    device = next(model.parameters()).device
    losses: list[Tensor] = []
    for image, label in stop.watch(batches):
        with autocast(device, cfg.precision):
            _, logits_BKN = model(to_input(image, device), branches)
        loss = expression_loss(logits_BKN.float(), label.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        state.watch(losses)
    return sum(state.require_finite(losses).tolist()) / len(losses)


@torch.inference_mode()
def predict(model: ESR, faces: ExpressionFaces, cfg: TrainFer, branches: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits of the first `branches` branches (None: all), B K 8, and the true classes, B."""
    model.eval()
    device = next(model.parameters()).device
    logits, labels = [], []
    for image, label in Batches(faces, cfg.batch_size, num_workers=cfg.workers):
        with autocast(device, cfg.precision):
            logits.append(model(to_input(image, device), branches)[1].float().cpu())
        labels.append(label)
    return torch.cat(logits), torch.cat(labels)


def validate(model: ESR, val: ExpressionFaces, cfg: TrainFer, branches: int | None = None) -> dict[str, float]:
    """Accuracy of the ensemble's vote and of every branch."""
    logits_BKN, label_B = predict(model, val, cfg, branches)
    accuracy = {"val/accuracy": _share(vote(logits_BKN) == label_B)}
    for k in range(logits_BKN.shape[1]):
        accuracy[f"val/branch_{k + 1}_accuracy"] = _share(logits_BKN[:, k].argmax(dim=1) == label_B)
    return accuracy


def confusion_table(cfg: TrainFer, expressions: Path, checkpoint: Path) -> pd.DataFrame:
    """Columns actual and predicted (by the vote): class names, one row per validation face."""
    model = load_esr(checkpoint).to(pick_device())
    logits_BKN, label_B = predict(model, ExpressionFaces(expressions, "val", cfg.network.size), cfg)
    names = np.array(EXPRESSIONS)
    return pd.DataFrame({"actual": names[label_B.numpy()], "predicted": names[vote(logits_BKN).numpy()]})


def _share(right_B: Tensor) -> float:
    return float(right_B.float().mean())
