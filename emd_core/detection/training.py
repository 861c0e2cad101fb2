"""Training of EMD: the second loop of Algorithm 1, with the freeze schedule of section 4.2."""

import math
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from emd_core.config import Config
from emd_core.detection.blends import make_blends
from emd_core.detection.calibration import calibrate
from emd_core.detection.crops import Batch, FaceCrops
from emd_core.detection.inference import predict_all
from emd_core.detection.inputs import training_inputs
from emd_core.detection.learner import Learner
from emd_core.detection.loading import Crops, load, order_of
from emd_core.detection.metrics import THRESHOLD, confusion, mean_iou
from emd_core.detection.profile import profile_of
from emd_core.detection.recipe import PAPER, Recipe
from emd_core.detection.tracks import fit_rule
from emd_core.errors import Preempted, UserError
from emd_core.models.build import NetworkConfig, build_detector, detector_of
from emd_core.models.checkpoint import Calibration, save_detector
from emd_core.models.detector import Detector, Fitted
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr
from emd_core.models.parts.precision import Precision, pick_device, to_input
from emd_core.models.rule import Profile
from emd_core.storage.manifest import ORIGINAL
from emd_core.training import distributed
from emd_core.training.resuming import STATE, EpochHook, Preemption, Resumable, WatchHook, seed_epoch, unwatched

STATISTICS = 10  # batches of an epoch whose statistics averaged weights get
PACE = {"workers", "save_minutes"}  # of TrainEmd: how fast and how safe, never what is learned
STOPPED = "train_emd was stopped by SIGTERM; the same command goes on after its last step."


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
        description="Where theta starts: 'random', or what docs/models.md names for the kind of network: 'imagenet' "
        "(a download), a file or a folder of published weights."
    )
    warmup_epochs: int = Field(ge=0, description="Epochs in which all layers before conv4 are fixed; 3 in the paper.")
    epochs: int = Field(ge=0, description="Epochs after the warm-up; 20 in the paper. 0 keeps the weights as loaded.")
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, description="Adam's learning rate.")
    betas: tuple[float, float]
    eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    recipe: Recipe | None = Field(description="What helps on videos unlike the training data; null = the paper's.")
    precision: Precision
    workers: int = Field(ge=0, description="Processes that read and change crops ahead of the steps; 0 = none.")
    save_minutes: float = Field(gt=0, description="Minutes between two saves within an epoch; what a kill may cost.")


def train_emd(
    cfg: TrainEmd,
    *,
    faces: Path,
    masks: Path,
    fer: Path | None,
    work: Path,
    on_epoch: EpochHook,
    watch: WatchHook = unwatched,
) -> None:
    """Train and leave the best model by balanced validation accuracy in `work / CHECKPOINT`.

    Under torchrun each process takes its share of every batch; rank 0 alone validates and writes, and `work`,
    `on_epoch` and `watch` are its own. The batches' losses and gradients are those of one process where all masks of a
    batch are known (each rank averages over the known masks of its share) and, on CPUs, without batch norm in training
    mode.

    `on_epoch` is called after each epoch with its metrics. A run that was killed goes on from its last save (after
    each epoch, and every `save_minutes`) when called again with the same `work`, and ends with the same weights as one
    that was not. SIGTERM lets it finish its step, saves the state and raises Preempted.
    """
    recipe = cfg.recipe or PAPER
    torch.manual_seed(cfg.seed)
    train, val = read_crops(cfg, faces, masks)
    rows = choose_targets(train.table, cfg)
    blending = detector_of(cfg.network).learns_from_blends
    learned = sorted(set(train.table["method"].iloc[rows]) - {ORIGINAL})
    label = np.repeat([0, 1], len(rows)) if blending else train.table["label"].to_numpy()[rows]  # as of Blends.rows
    classes = sorted(set(label.tolist()))
    if len(classes) < 2 or len(label) < cfg.batch_size:
        raise UserError(
            f"the train split of {masks} has {len(label)} crops of classes {classes}; it needs both classes and at "
            f"least one batch (train_emd.batch_size is {cfg.batch_size})."
        )
    if cfg.batch_size % distributed.world_size():
        raise UserError(
            f"train_emd.batch_size is {cfg.batch_size}, but torchrun started {distributed.world_size()} processes; "
            "the batch is split among them, so make it a multiple of their number."
        )
    device = pick_device()
    model = make_detector(cfg, fer).to(device).to(memory_format=torch.channels_last)
    if isinstance(model, Fitted) and distributed.world_size() > 1:
        raise UserError(
            f"train_emd.network.kind '{cfg.network.kind}' learns from all crops at once, but torchrun started "
            f"{distributed.world_size()} processes; start it with `python -m components train_emd`."
        )
    distributed.synchronise_batch_norms(model, device)
    theta = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        theta, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps, weight_decay=cfg.weight_decay, fused=True
    )
    learner = Learner(model, optimizer, recipe, cfg.precision)
    state = Resumable(work / STATE, learner.weights, optimizer)
    main = distributed.is_main()
    profile = profile_of(train, val) if main else None
    for epoch, metrics in enumerate(state.restore()):
        if main:
            on_epoch(epoch, metrics)

    epochs = cfg.warmup_epochs + cfg.epochs
    with Preemption(STOPPED, save_every_s=60 * cfg.save_minutes) as stop:
        unfinished = len(state.history) < epochs
        blends = None
        if unfinished and blending:
            blends = make_blends(train, rows[train.table["label"].to_numpy()[rows] == 0], cfg.seed, stop)
        for epoch in range(len(state.history), epochs):
            set_trainable(model, warmup=epoch < cfg.warmup_epochs)
            mirroring, generators = seed_epoch(cfg.seed + 1 + epoch, device)
            state.restore_random(generators)
            losses = [loss.to(device) for loss in state.losses]  # of the steps that were done before a stop
            learnt = blends.rows(epoch + 1) if blends else rows
            order = order_of(learnt, label, recipe, np.random.default_rng([cfg.seed, epoch]))
            steps = len(order) // cfg.batch_size
            crops, title = blends or train, f"train_emd epoch {epoch + 1}/{epochs}"
            batches = _progress(
                load(crops, order, cfg.batch_size, recipe, (cfg.seed, epoch), len(losses), cfg.workers),
                len(losses),
                steps,
                title,
            )
            inputs = training_inputs(batches, mirroring, device)
            if isinstance(model, Fitted):
                inputs = stop.watch(inputs)  # within its one step
            done, started = len(losses), time.perf_counter()
            try:
                for _ in learner.learn(inputs, losses):
                    state.watch(losses)
                    if stop.check():
                        state.save_within(losses, generators)
                state.require_finite(losses)
                speed = cfg.batch_size * (len(losses) - done) / (time.perf_counter() - started)
                loss = float(distributed.mean(torch.stack(losses)).mean())
                for _ in learner.recompute_statistics(_first_images(order, crops, cfg, recipe, epoch)):
                    if stop.check():
                        state.save_within(losses, generators)
                figures, scores = distributed.on_main(lambda: validate(learner.kept, val, cfg, stop))
                metrics = {"train/loss": loss, **figures}
            except Preempted:
                state.save_within(losses, generators)
                raise
            best = state.is_best(metrics["val/balanced_accuracy"], -metrics["val/loss"])
            if best and main:
                assert profile is not None
                save_fitted(work / CHECKPOINT, learner.kept, metrics, val, scores, profile, learned)
            state.save(metrics)
            if main:
                watch(
                    epoch,
                    learner.kept,
                    {"train/lr": optimizer.param_groups[0]["lr"]}
                    | ({"train/images_per_second": speed} if speed else {}),
                )
                on_epoch(epoch, metrics)


def keep_weights(
    cfg: TrainEmd, *, faces: Path | None, masks: Path | None, fer: Path | None, work: Path, on_epoch: EpochHook
) -> None:
    """The network with the weights that `cfg` names in `work / CHECKPOINT`, untrained (train_emd.epochs: 0).

    With crops it is validated and calibrated on their val split.
    """
    torch.manual_seed(cfg.seed)
    model = make_detector(cfg, fer).to(pick_device()).to(memory_format=torch.channels_last)
    if not (faces and masks):
        save_detector(work / CHECKPOINT, model)
        return
    train, val = read_crops(cfg, faces, masks)
    with Preemption(STOPPED) as stop:
        metrics, scores = validate(model, val, cfg, stop)
    on_epoch(0, metrics)
    save_fitted(work / CHECKPOINT, model, metrics, val, scores, profile_of(train, val))


def read_crops(cfg: TrainEmd, faces: Path, masks: Path) -> tuple[FaceCrops, FaceCrops]:
    """The train and the val split. A network that learns from blends sees the manipulations in the second alone."""
    methods = [] if detector_of(cfg.network).learns_from_blends else cfg.methods
    train = FaceCrops(faces, masks, "train", methods, cfg.qualities)
    return train, FaceCrops(faces, masks, "val", cfg.methods, cfg.qualities)


def make_detector(cfg: TrainEmd, fer: Path | None) -> Detector:
    """The network of the config with phi from `fer` and theta from where `weights` says."""
    if cfg.network.with_expression and fer is None:
        raise UserError("train_emd.network.expression is true, so the network needs --fer; name train_fer's output.")
    model = build_detector(cfg.network, load_esr(fer) if cfg.network.with_expression and fer else None)
    if cfg.weights != "random":
        model.load_published(cfg.weights)
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


def _progress(batches: Iterable[Batch], done: int, steps: int, title: str) -> Iterable[Batch]:
    """The epoch's batches behind those that are done, on rank 0 under a progress bar."""
    return tqdm(batches, title, initial=done, total=steps) if distributed.is_main() else batches


def _first_images(order: np.ndarray, crops: Crops, cfg: TrainEmd, recipe: Recipe, epoch: int) -> Iterable[Tensor]:
    """The epoch's first crops once more, B3HW, as they were learned; read only when they are asked for."""
    first = order[: STATISTICS * cfg.batch_size]
    for batch in load(crops, first, cfg.batch_size, recipe, (cfg.seed, epoch), 0, cfg.workers):
        yield to_input(batch.image, pick_device())


def validate(
    model: Detector, crops: FaceCrops, cfg: TrainEmd, stop: Preemption
) -> tuple[dict[str, float], NDArray[np.floating]]:
    """Accuracy and cross-entropy over all crops, mean IoU over those with a known mask, temperature and threshold.

    Balanced accuracy is the mean of the classes' own: with three fakes to an original, a network that calls everything
    a fake has an accuracy of 0.75, and a balanced one of 0.5. What the crops cannot tell is left out. Second, the
    crops' scores.
    """
    model.eval()
    loss, counts, scores = 0.0, np.zeros(4, np.int64), []
    for batch, score, mask_score in stop.watch(predict_all(model, crops, cfg.batch_size, cfg.precision)):
        label = batch.label.numpy()
        scores.append(score)
        loss -= float(np.log(np.clip(np.where(label == 1, score, 1 - score), 1e-7, None)).sum())
        if mask_score is not None:
            known = batch.known.numpy()
            counts += confusion(mask_score[known] > THRESHOLD, batch.mask.squeeze(1).numpy()[known]).sum(axis=0)
    score, label = np.concatenate(scores), crops.table["label"].to_numpy()
    right = (score > THRESHOLD) == label
    figures = {
        "val/accuracy": float(right.mean()),
        "val/balanced_accuracy": float(np.mean([right[label == k].mean() for k in np.unique(label)])),
        "val/loss": loss / len(crops),
    }
    if math.isfinite(miou := mean_iou(*counts.tolist())):
        figures["val/miou"] = miou
    calibration = calibrate(label, score)
    return figures | ({f"val/{name}": x for name, x in calibration._asdict().items()} if calibration else {}), score


def save_fitted(
    path: Path,
    model: Detector,
    metrics: dict[str, float],
    val: FaceCrops,
    scores: NDArray[np.floating],
    profile: Profile,
    learned: list[str] | None = None,
) -> None:
    """The network with all that was fitted to its val split."""
    calibration = fitted(metrics)
    rule = fit_rule(val.table, scores, calibration.temperature, profile) if calibration else None
    save_detector(path, model, calibration, rule, learned)


def fitted(metrics: dict[str, float]) -> Calibration | None:
    """The calibration among the figures of `validate`."""
    names = [f"val/{name}" for name in Calibration._fields]
    return Calibration(*(metrics[name] for name in names)) if set(names) <= set(metrics) else None
