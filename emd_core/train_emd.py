"""Training of EMD: the second loop of Algorithm 1, with the freeze schedule of section 4.2."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from emd_core.config import Config
from emd_core.dataset import Batch, FaceCrops, balanced_order
from emd_core.errors import UserError
from emd_core.inference import predict_all
from emd_core.losses import manipulation_loss
from emd_core.metrics import THRESHOLD, confusion, mean_iou
from emd_core.models.checkpoint import CHECKPOINT, load_esr, save_emd
from emd_core.models.emd import EMD, EMDConfig, build_emd
from emd_core.precision import Precision, autocast, pick_device, to_input
from emd_core.training import EpochHook, Resumable


class TrainEmd(Config):
    """Section train_emd of params.yaml."""

    seed: int = Field(ge=0)
    encoder_weights: str = Field(description="'imagenet' (timm's download), 'random', or a state-dict file.")
    atrous_rates: tuple[int, int, int] = Field(description="Of the decoder's pyramid; (6, 12, 18) at 299 pixels.")
    warmup_epochs: int = Field(ge=0, description="Epochs in which all layers before conv4 are fixed; 3 in the paper.")
    epochs: int = Field(ge=1, description="Epochs after the warm-up; 20 in the paper.")
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, description="Adam's learning rate.")
    betas: tuple[float, float]
    eps: float = Field(gt=0)
    precision: Precision
    cache_expression: bool = Field(
        description="Keep the expression features of every crop and of its mirror image in memory: they never change."
    )


def train_emd(cfg: TrainEmd, *, faces: Path, masks: Path, fer: Path, work: Path, on_epoch: EpochHook) -> None:
    """Train and leave the best model by validation accuracy in `work / CHECKPOINT`.

    `on_epoch` is called after each epoch with its metrics. A run that was killed goes on from its last epoch when
    called again with the same `work`, and ends with the same weights as one that was not.
    """
    torch.manual_seed(cfg.seed)
    train, val = FaceCrops(faces, masks, "train"), FaceCrops(faces, masks, "val")
    classes = sorted(train.table["label"].unique().tolist())
    if len(classes) < 2 or len(train) < cfg.batch_size:
        raise UserError(
            f"the train split of {masks} has {len(train)} crops of classes {classes}; it needs both classes and at "
            f"least one batch (train_emd.batch_size is {cfg.batch_size})."
        )
    esr = load_esr(fer)
    device = pick_device()
    model = build_emd(EMDConfig(image_size=train.size, atrous_rates=cfg.atrous_rates, fer=esr.config))
    model.fer.load_state_dict(esr.state_dict())
    if cfg.encoder_weights != "random":
        model.encoder.load_imagenet(cfg.encoder_weights)
    model = model.to(device).to(memory_format=torch.channels_last)
    theta = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(theta, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps, fused=True)
    state = Resumable(work / "checkpoint.pt", model, optimizer)
    for epoch, metrics in enumerate(state.restore()):
        on_epoch(epoch, metrics)

    cache = ExpressionCache(model, train, cfg) if cfg.cache_expression else None
    for epoch in range(len(state.history), cfg.warmup_epochs + cfg.epochs):
        set_trainable(model, warmup=epoch < cfg.warmup_epochs)
        torch.manual_seed(cfg.seed + 1 + epoch)  # an epoch does not depend on the ones before it: it can be resumed
        order = balanced_order(train.table["label"].to_numpy(), np.random.default_rng([cfg.seed, epoch]))
        batches = train.batches(order, cfg.batch_size, drop_last=True)  # batch norm needs full batches
        title = f"train_emd epoch {epoch + 1}/{cfg.warmup_epochs + cfg.epochs}"
        progress = tqdm(batches, title, total=len(order) // cfg.batch_size)
        loss = _train_epoch(model, optimizer, progress, cache, cfg)
        metrics = {"train/loss": loss, **validate(model, val, cfg)}
        if state.is_best(metrics["val/accuracy"], -metrics["val/loss"]):
            save_emd(work / CHECKPOINT, model)
        state.save(metrics)
        on_epoch(epoch, metrics)


def set_trainable(model: EMD, *, warmup: bool) -> None:
    """Train mode for what learns. In the warm-up all encoder layers before conv4 are fixed, batch norms included."""
    model.train()
    for name, module in model.encoder.net.named_children():
        learns = not warmup or f"net.{name}.".startswith(model.encoder.fresh_prefixes())
        module.requires_grad_(learns).train(learns)


def _train_epoch(
    model: EMD,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    cache: "ExpressionCache | None",
    cfg: TrainEmd,
) -> float:
    device = next(model.parameters()).device
    losses = []
    for batch in batches:
        mirrored_B = torch.rand(len(batch.index)) < 0.5
        image = to_input(mirror(batch.image, mirrored_B), device)
        mask = mirror(batch.mask, mirrored_B).to(device).float()
        expression = cache.read(batch.index, mirrored_B).to(device) if cache else None
        with autocast(device, cfg.precision):
            logits, mask_logits = model(image, expression)
        loss = manipulation_loss(logits.float(), mask_logits.float(), batch.label.to(device), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def mirror(x_BCHW: Tensor, which_B: Tensor) -> Tensor:
    """Flip the chosen samples left to right."""
    return torch.where(which_B[:, None, None, None], x_BCHW.flip(3), x_BCHW)


def validate(model: EMD, crops: FaceCrops, cfg: TrainEmd) -> dict[str, float]:
    """Accuracy, cross-entropy and mean IoU over all crops."""
    model.eval()
    right, loss, counts = 0, 0.0, np.zeros(4, np.int64)
    for batch, score, mask_score in predict_all(model, crops, cfg.batch_size, cfg.precision):
        label = batch.label.numpy()
        right += int(((score > THRESHOLD) == label).sum())
        loss -= float(np.log(np.clip(np.where(label == 1, score, 1 - score), 1e-7, None)).sum())
        counts += confusion(mask_score > THRESHOLD, batch.mask.squeeze(1).numpy()).sum(axis=0)
    return {"val/accuracy": right / len(crops), "val/loss": loss / len(crops), "val/miou": mean_iou(*counts.tolist())}


class ExpressionCache:
    """The pooled expression features of every crop and of its mirror image, in bf16 (37 KB each at 96 pixels)."""

    def __init__(self, model: EMD, crops: FaceCrops, cfg: TrainEmd) -> None:
        model.eval()
        device = next(model.parameters()).device
        batches = crops.batches(np.arange(len(crops)), cfg.batch_size, drop_last=False)
        parts = []
        for batch in tqdm(batches, total=-(-len(crops) // cfg.batch_size), desc="expression features"):
            both = torch.cat([batch.image, batch.image.flip(3)])
            with autocast(device, cfg.precision):
                features = model.expression_features(to_input(both, device)).to("cpu", torch.bfloat16)
            parts.append(torch.stack(features.chunk(2), dim=1))
        self._features = torch.cat(parts)

    def read(self, index: np.ndarray, mirrored_B: Tensor) -> Tensor:
        return self._features[torch.from_numpy(index), mirrored_B.long()]
