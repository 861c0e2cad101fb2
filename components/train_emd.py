"""Train the two-stream network on validated crops and masks.

Writes model.safetensors (the best epoch by balanced validation accuracy), metrics.json and curves.csv. A killed run
goes on from its last save (every `save_minutes`); one that was stopped by SIGTERM from its last step. On several GPUs
(batch_size is of all of them):
`torchrun --standalone --nproc-per-node=gpu -m components train_emd ...`.
"""

import hashlib
from pathlib import Path
from typing import Any

from components import MaybeIn, Out
from components.tracking.run import RUN, flatten, stage_run
from emd_core.detection import training as core
from emd_core.detection.crops import FaceCrops
from emd_core.detection.training import TrainEmd
from emd_core.errors import UserError
from emd_core.models.build import network_name
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import pick_device, resolve
from emd_core.pages.overlays import one_of_each, overlays
from emd_core.storage.atomic import resumable_dir
from emd_core.storage.manifest import FACES, MASKS, OK, read_manifest, require_made_from
from emd_core.storage.validity import require_validated
from emd_core.training import distributed
from emd_core.training.output import best_metrics, input_key, write_training_output
from emd_core.training.resuming import STATE


def train_emd(
    cfg: TrainEmd,
    *,
    faces: MaybeIn = None,
    masks: MaybeIn = None,
    fer: MaybeIn = None,
    report: MaybeIn = None,
    model: Out,
) -> None:
    """faces, masks: crops and their masks; fer: the expression network; report: that the data passed validation.

    `fer` may be left out where the network has no expression stream, all others where nothing is trained: a network
    that is kept as it was published (epochs: 0) needs no data, and with `faces` and `masks` is calibrated on them.
    """
    trains = bool(cfg.warmup_epochs + cfg.epochs)
    if (faces is None) != (masks is None) or (trains and not (faces and report)):
        raise UserError("train_emd needs --faces, --masks and --report, or, with epochs: 0, --faces with --masks only.")
    with distributed.process_group():
        if distributed.is_main():
            _train(cfg, faces, masks, fer, report if trains else None, model)
        elif trains:  # it computes its share, and writes nothing
            core.train_emd(cfg, **_network_inputs(faces, masks, fer), work=model, on_epoch=lambda epoch, metrics: None)


def _train(
    cfg: TrainEmd, faces: Path | None, masks: Path | None, fer: Path | None, report: Path | None, model: Path
) -> None:
    history: list[dict[str, float]] = []
    tables = [read_manifest(faces, FACES), read_manifest(masks, MASKS)] if faces and masks else []
    if tables:
        require_made_from(tables[1], "masks", faces=tables[0])
    if report:
        require_validated(report, tables[1])
    given = _network_inputs(faces, masks, fer)
    fer_file = given["fer"]
    fer_digest = hashlib.sha256(fer_file.read_bytes()).hexdigest() if fer_file and fer_file.is_file() else ""
    key = input_key(cfg, [*(table.id for table in tables), fer_digest], core.PACE)
    with (
        resumable_dir(model, key, state=[f"{STATE}*", RUN]) as work,
        stage_run(
            "train_emd", cfg, {"faces": faces, "masks": masks, "fer": fer}, name=run_name(cfg), resume=work / RUN
        ) as run,
    ):

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            history.append(metrics)
            run.log_metrics(metrics, epoch)

        run.set_tags({"precision": resolve(cfg.precision, pick_device())})
        if masks:
            run.log_input(masks, tables[1].id, rows=int((tables[1].table["status"] == OK).sum()), context="train")
        if report is None:
            core.keep_weights(cfg, **given, work=work, on_epoch=on_epoch)
        else:
            val = FaceCrops(given["faces"], given["masks"], "val", cfg.methods, cfg.qualities)
            watched = one_of_each(val.table)

            def watch(epoch: int, network: Any, figures: dict[str, float]) -> None:
                run.log_metrics(figures, epoch)
                for name, picture in overlays(network, val, watched, cfg.precision).items():
                    run.log_image(picture, f"val overlays/{name}", epoch)

            core.train_emd(cfg, **given, work=work, on_epoch=on_epoch, watch=watch)
        write_training_output(work, history)
        run.log_metrics(best_metrics(history))
        digest = hashlib.sha256((work / CHECKPOINT).read_bytes()).hexdigest()[:12]
        run.log_model(digest, network_name(cfg.network), flatten(cfg.model_dump(mode="json")))


def _network_inputs(faces: Path | None, masks: Path | None, fer: Path | None) -> dict[str, Any]:
    return {"faces": faces, "masks": masks, "fer": fer and fer / CHECKPOINT}


def run_name(cfg: TrainEmd) -> str:
    """What is trained, on which part of the data, from which seed."""
    parts = [*(cfg.methods or []), *(cfg.qualities or []), f"{cfg.targets} targets" if cfg.targets else ""]
    return " ".join(filter(None, ["train_emd", network_name(cfg.network), *parts, f"seed {cfg.seed}"]))
