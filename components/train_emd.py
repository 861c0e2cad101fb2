"""Train the two-stream network on validated crops and masks.

Writes model.safetensors (the best epoch by validation accuracy), metrics.json and curves.csv. A killed run goes on
from its last save (every `save_minutes`); one that was stopped by SIGTERM from its last step. On several GPUs
(batch_size is of all of them):
`torchrun --standalone --nproc-per-node=gpu -m components train_emd ...`.
"""

import hashlib
from pathlib import Path
from typing import Any

from components import In, Out
from components.tracking.run import RUN, flatten, stage_run
from emd_core.detection import training as core
from emd_core.detection.crops import FaceCrops
from emd_core.detection.training import TrainEmd
from emd_core.models.build import network_name
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.pages.overlays import one_of_each, overlays
from emd_core.storage.atomic import resumable_dir
from emd_core.storage.manifest import FACES, MASKS, read_manifest, require_made_from
from emd_core.storage.validity import require_validated
from emd_core.training import distributed
from emd_core.training.output import best_metrics, input_key, write_training_output
from emd_core.training.resuming import STATE


def train_emd(cfg: TrainEmd, *, faces: In, masks: In, fer: In, report: In, model: Out) -> None:
    """faces, masks: crops and their masks; fer: the expression network; report: that the data passed validation."""
    with distributed.process_group():
        if distributed.is_main():
            _train(cfg, faces, masks, fer, report, model)
        else:  # it computes its share, and writes nothing
            core.train_emd(
                cfg, faces=faces, masks=masks, fer=fer / CHECKPOINT, work=model, on_epoch=lambda epoch, metrics: None
            )


def _train(cfg: TrainEmd, faces: Path, masks: Path, fer: Path, report: Path, model: Path) -> None:
    history: list[dict[str, float]] = []
    crops, truth = read_manifest(faces, FACES), read_manifest(masks, MASKS)
    require_made_from(truth, "masks", faces=crops)
    require_validated(report, truth)
    fer_file = fer / CHECKPOINT
    fer_digest = hashlib.sha256(fer_file.read_bytes()).hexdigest() if fer_file.is_file() else ""
    key = input_key(cfg, [crops.id, truth.id, fer_digest])
    inputs = {"faces": faces, "masks": masks, "fer": fer}
    with (
        resumable_dir(model, key, state=[f"{STATE}*", RUN]) as work,
        stage_run("train_emd", cfg, inputs, name=run_name(cfg), resume=work / RUN) as run,
    ):
        val = FaceCrops(faces, masks, "val", cfg.methods, cfg.qualities)
        watched = one_of_each(val.table)

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            history.append(metrics)
            run.log_metrics(metrics, epoch)

        def watch(epoch: int, network: Any, figures: dict[str, float]) -> None:
            run.log_metrics(figures, epoch)
            for name, picture in overlays(network, val, watched, cfg.precision).items():
                run.log_image(picture, f"val overlays/{name}", epoch)

        run.log_input(masks, truth.id, rows=len(truth.table), context="train")
        core.train_emd(cfg, faces=faces, masks=masks, fer=fer_file, work=work, on_epoch=on_epoch, watch=watch)
        write_training_output(work, history)
        run.log_metrics(best_metrics(history))
        digest = hashlib.sha256((work / CHECKPOINT).read_bytes()).hexdigest()[:12]
        run.log_model(digest, network_name(cfg.network), flatten(cfg.model_dump(mode="json")))


def run_name(cfg: TrainEmd) -> str:
    """What is trained, on which part of the data, from which seed."""
    parts = [*(cfg.methods or []), *(cfg.qualities or []), f"{cfg.targets} targets" if cfg.targets else ""]
    return " ".join(filter(None, ["train_emd", network_name(cfg.network), *parts, f"seed {cfg.seed}"]))
