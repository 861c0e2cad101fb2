"""Training of the expression network: the first loop of Algorithm 1. All branches learn together (Eq. 1)."""

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from emd_core.affectnet import AffectNet
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.losses import expression_loss
from emd_core.models.checkpoint import CHECKPOINT, save_esr
from emd_core.models.esr import ESR, ESRConfig, vote
from emd_core.precision import Precision, autocast, pick_device, to_input
from emd_core.training import EpochHook, Resumable


class TrainFer(Config):
    """Section train_fer of params.yaml."""

    seed: int = Field(ge=0)
    network: ESRConfig
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, description="Adam's learning rate.")
    precision: Precision
    workers: int = Field(ge=0, description="Processes that decode and augment images; 0 = in the training process.")


def train_fer(cfg: TrainFer, *, expressions: Path, work: Path, on_epoch: EpochHook) -> None:
    """Train and leave the best model by the ensemble's validation accuracy in `work / CHECKPOINT`; resumable."""
    torch.manual_seed(cfg.seed)
    train = AffectNet(expressions, "train", cfg.network.size, augment=augmentation())
    val = AffectNet(expressions, "val", cfg.network.size)
    if len(train) < cfg.batch_size:
        raise UserError(
            f"{expressions} has {len(train)} training images; it needs at least one batch "
            f"(train_fer.batch_size is {cfg.batch_size})."
        )
    device = pick_device()
    model = ESR(cfg.network).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    state = Resumable(work / "checkpoint.pt", model, optimizer)
    for epoch, metrics in enumerate(state.restore()):
        on_epoch(epoch, metrics)

    loader = DataLoader(train, cfg.batch_size, shuffle=True, drop_last=True, num_workers=cfg.workers)
    for epoch in range(len(state.history), cfg.epochs):
        torch.manual_seed(cfg.seed + 1 + epoch)  # an epoch does not depend on the ones before it: it can be resumed
        model.train()
        total = 0.0
        for image, label in tqdm(loader, desc=f"train_fer epoch {epoch + 1}/{cfg.epochs}"):
            with autocast(device, cfg.precision):
                _, logits_BKN = model(to_input(image, device))
            loss = expression_loss(logits_BKN.float(), label.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        metrics = {"train/loss": total / len(loader), **validate(model, val, cfg)}
        if state.is_best(metrics["val/accuracy"]):
            save_esr(work / CHECKPOINT, model)
        state.save(metrics)
        on_epoch(epoch, metrics)


def augmentation() -> v2.Compose:
    """The augmentation of the published training."""
    return v2.Compose(
        [
            v2.ColorJitter(brightness=0.5, contrast=0.5),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(30, translate=(0.1, 0.1), scale=(1.0, 1.25), interpolation=v2.InterpolationMode.BILINEAR),
        ]
    )


@torch.inference_mode()
def validate(model: ESR, val: AffectNet, cfg: TrainFer) -> dict[str, float]:
    """Accuracy of the ensemble's vote and of every branch."""
    model.eval()
    device = next(model.parameters()).device
    logits, labels = [], []
    for image, label in DataLoader(val, cfg.batch_size, num_workers=cfg.workers):
        with autocast(device, cfg.precision):
            logits.append(model(to_input(image, device))[1].float().cpu())
        labels.append(label)
    logits_BKN, label_B = torch.cat(logits), torch.cat(labels)
    accuracy = {"val/accuracy": _share(vote(logits_BKN) == label_B)}
    for k in range(logits_BKN.shape[1]):
        accuracy[f"val/branch_{k + 1}_accuracy"] = _share(logits_BKN[:, k].argmax(dim=1) == label_B)
    return accuracy


def _share(right_B: Tensor) -> float:
    return float(right_B.float().mean())
