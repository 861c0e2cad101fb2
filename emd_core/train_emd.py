"""Training of EMD: the second loop of Algorithm 1, with the freeze schedule of section 4.2."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from emd_core.config import Config
from emd_core.dataset import Batch, FaceCrops, balanced_order
from emd_core.errors import Preempted, UserError
from emd_core.inference import predict_all
from emd_core.metrics import THRESHOLD, confusion, mean_iou
from emd_core.models.build import NetworkConfig, build_detector
from emd_core.models.checkpoint import CHECKPOINT, load_esr, save_detector
from emd_core.models.detector import Detector
from emd_core.models.emd import EMD
from emd_core.models.multitask import MultiTask, load_published_multitask
from emd_core.precision import Precision, autocast, pick_device, to_input
from emd_core.training import STATE, EpochHook, Preemption, Resumable, random_generators


class TrainEmd(Config):
    """Section train_emd of params.yaml."""

    seed: int = Field(ge=0)
    methods: list[str] | None = Field(description="Manipulations to learn from; null = all that the crops hold.")
    qualities: list[str] | None = Field(description="Qualities to learn from; null = all that the crops hold.")
    targets: int | None = Field(
        ge=1, description="Number of training videos: so many originals, with the fakes made of them; null = all."
    )
    network: NetworkConfig
    weights: str = Field(
        description="Where theta starts: 'random'; Xception: 'imagenet' (timm's download) or a state-dict file; "
        "MultiTask: the folder of its published files."
    )
    warmup_epochs: int = Field(ge=0, description="Epochs in which all layers before conv4 are fixed; 3 in the paper.")
    epochs: int = Field(ge=0, description="Epochs after the warm-up; 20 in the paper. 0 keeps the weights as loaded.")
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, description="Adam's learning rate.")
    betas: tuple[float, float]
    eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    precision: Precision
    cache_expression: bool = Field(
        description="Keep the expression features of every crop and of its mirror image in memory: they never change."
    )


def train_emd(cfg: TrainEmd, *, faces: Path, masks: Path, fer: Path, work: Path, on_epoch: EpochHook) -> None:
    """Train and leave the best model by validation accuracy in `work / CHECKPOINT`.

    `on_epoch` is called after each epoch with its metrics. A run that was killed goes on from its last epoch when
    called again with the same `work`, and ends with the same weights as one that was not. SIGTERM lets it finish its
    step, saves the state and raises Preempted: the next call goes on with the step after.
    """
    torch.manual_seed(cfg.seed)
    train, val = (FaceCrops(faces, masks, split, cfg.methods, cfg.qualities) for split in ("train", "val"))
    rows = choose_targets(train.table, cfg)
    label = train.table["label"].to_numpy()[rows]
    classes = sorted(set(label.tolist()))
    if len(classes) < 2 or len(rows) < cfg.batch_size:
        raise UserError(
            f"the train split of {masks} has {len(rows)} crops of classes {classes}; it needs both classes and at "
            f"least one batch (train_emd.batch_size is {cfg.batch_size})."
        )
    device = pick_device()
    model = make_detector(cfg, fer).to(device).to(memory_format=torch.channels_last)
    theta = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        theta, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps, weight_decay=cfg.weight_decay, fused=True
    )
    state = Resumable(work / STATE, model, optimizer)
    for epoch, metrics in enumerate(state.restore()):
        on_epoch(epoch, metrics)

    epochs = cfg.warmup_epochs + cfg.epochs
    with Preemption("train_emd was stopped by SIGTERM; the same command goes on after its last step.") as stop:
        if not epochs:
            save_detector(work / CHECKPOINT, model)
            on_epoch(0, validate(model, val, cfg, stop))
        cached = cfg.cache_expression and model.fer is not None and len(state.history) < epochs
        cache = ExpressionCache(model, train, rows, cfg, stop) if cached else None
        for epoch in range(len(state.history), epochs):
            set_trainable(model, warmup=epoch < cfg.warmup_epochs)
            torch.manual_seed(cfg.seed + 1 + epoch)  # an epoch does not depend on the ones before it: it can be resumed
            generators = random_generators(device)
            state.restore_random(generators)
            order = rows[balanced_order(label, np.random.default_rng([cfg.seed, epoch]))]
            losses = [loss.to(device) for loss in state.losses]  # of the steps that were done before a stop
            try:
                batches = _progress(train, order, cfg, len(losses), f"train_emd epoch {epoch + 1}/{epochs}")
                _train_epoch(model, optimizer, batches, cache, cfg, losses, stop)
                metrics = {"train/loss": float(torch.stack(losses).mean()), **validate(model, val, cfg, stop)}
            except Preempted:
                state.save_stopped(losses, generators)
                raise
            if state.is_best(metrics["val/accuracy"], -metrics["val/loss"]):
                save_detector(work / CHECKPOINT, model)
            state.save(metrics)
            on_epoch(epoch, metrics)


def make_detector(cfg: TrainEmd, fer: Path) -> Detector:
    """The network of the config with phi from `fer` and theta from where `weights` says."""
    model = build_detector(cfg.network, load_esr(fer) if cfg.network.expression else None)
    if cfg.weights == "random":
        return model
    if isinstance(model, EMD):
        model.encoder.load_weights(cfg.weights)
    elif isinstance(model, MultiTask):
        load_published_multitask(model, Path(cfg.weights))
    return model


def choose_targets(table: pd.DataFrame, cfg: TrainEmd) -> np.ndarray:
    """Row numbers of the first `targets` target ids in a random order; a larger number only adds to a smaller."""
    ids = table["target"].unique()
    if cfg.targets is not None and cfg.targets > len(ids):
        raise UserError(f"train_emd.targets is {cfg.targets}, but the train split has {len(ids)} targets; lower it.")
    chosen = np.random.default_rng(cfg.seed).permutation(ids)[: cfg.targets]
    return np.flatnonzero(table["target"].isin(chosen))


def set_trainable(model: Detector, *, warmup: bool) -> None:
    """Train mode for what learns. In the warm-up all encoder layers before conv4 are fixed, batch norms included."""
    model.train()
    for module in model.pretrained():
        module.requires_grad_(not warmup).train(not warmup)


def _train_epoch(
    model: Detector,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    cache: "ExpressionCache | None",
    cfg: TrainEmd,
    losses: list[Tensor],
    stop: Preemption,
) -> None:
    """One step per batch; appends the loss of each to `losses`."""
    device = next(model.parameters()).device
    for batch in batches:
        mirrored_B = torch.rand(len(batch.index)) < 0.5
        image = to_input(mirror(batch.image, mirrored_B), device)
        mask = mirror(batch.mask, mirrored_B).to(device).float()
        expression = cache.read(batch.index, mirrored_B).to(device) if cache else None
        with autocast(device, cfg.precision):
            loss = model.loss(image, batch.label.to(device), mask, batch.known.to(device), expression)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        stop.check()


def _progress(crops: FaceCrops, order: np.ndarray, cfg: TrainEmd, done: int, title: str) -> Iterable[Batch]:
    """The epoch's full batches (batch norm needs them full) without the first `done`, under a progress bar."""
    batches = crops.batches(order[done * cfg.batch_size :], cfg.batch_size, drop_last=True)
    return tqdm(batches, title, initial=done, total=len(order) // cfg.batch_size)


def mirror(x_BCHW: Tensor, which_B: Tensor) -> Tensor:
    """Flip the chosen samples left to right."""
    return torch.where(which_B[:, None, None, None], x_BCHW.flip(3), x_BCHW)


def validate(model: Detector, crops: FaceCrops, cfg: TrainEmd, stop: Preemption) -> dict[str, float]:
    """Accuracy and cross-entropy over all crops, mean IoU over those with a known mask."""
    model.eval()
    right, loss, counts = 0, 0.0, np.zeros(4, np.int64)
    for batch, score, mask_score in stop.watch(predict_all(model, crops, cfg.batch_size, cfg.precision)):
        label = batch.label.numpy()
        right += int(((score > THRESHOLD) == label).sum())
        loss -= float(np.log(np.clip(np.where(label == 1, score, 1 - score), 1e-7, None)).sum())
        known = batch.known.numpy()
        counts += confusion(mask_score[known] > THRESHOLD, batch.mask.squeeze(1).numpy()[known]).sum(axis=0)
    figures = {"val/accuracy": right / len(crops), "val/loss": loss / len(crops)}
    return figures | ({"val/miou": mean_iou(*counts.tolist())} if counts.any() else {})


class ExpressionCache:
    """The pooled expression features of every crop and of its mirror image, in bf16 (37 KB each at 96 pixels)."""

    def __init__(self, model: Detector, crops: FaceCrops, rows: np.ndarray, cfg: TrainEmd, stop: Preemption) -> None:
        model.eval()
        device = next(model.parameters()).device
        batches = crops.batches(rows, cfg.batch_size, drop_last=False)
        parts = []
        for batch in stop.watch(tqdm(batches, total=-(-len(rows) // cfg.batch_size), desc="expression features")):
            both = torch.cat([batch.image, batch.image.flip(3)])
            with autocast(device, cfg.precision):
                features = model.expression_features(to_input(both, device))
            assert features is not None  # a cache is made only for networks with an expression stream
            parts.append(torch.stack(features.to("cpu", torch.bfloat16).chunk(2), dim=1))
        self._features = torch.cat(parts)
        self._place = np.full(len(crops), -1)
        self._place[rows] = np.arange(len(rows))

    def read(self, index: np.ndarray, mirrored_B: Tensor) -> Tensor:
        return self._features[torch.from_numpy(self._place[index]), mirrored_B.long()]
