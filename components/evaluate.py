"""Judge the trained network on the test split.

Writes metrics.json (per method and quality), summary.json (the few figures that runs are compared by),
predictions.parquet (a row per frame), roc.csv, roc.png, reliability.png, confusion.png, panels.png and report.html, a
page that shows them all.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from components import In, Out
from components.tracking.run import stage_run
from emd_core.config import Config
from emd_core.detection.crops import FaceCrops
from emd_core.detection.perturbations import require_known
from emd_core.errors import UserError
from emd_core.evaluation.scoring import roc_table, score_conditions
from emd_core.evaluation.slices import as_they_are, by_condition, slices, summarise_slices, why_unknown
from emd_core.models.build import network_name
from emd_core.models.checkpoint import load_calibration, load_detector, load_learned
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import Precision, pick_device, resolve
from emd_core.pages.evaluation_figures import save_confusions, save_panels, save_reliability, save_roc
from emd_core.pages.overlays import worst_frames
from emd_core.pages.render import render
from emd_core.storage.atomic import atomic_dir
from emd_core.storage.manifest import MASKS, ORIGINAL, read_manifest

PICTURES = ("roc", "reliability", "confusion", "panels")
SUMMARY = ("frame_accuracy", "miou")  # what pipeline runs are compared by, in DVC and MLflow alike


class Evaluate(Config):
    """Section evaluate of params.yaml."""

    batch_size: int = Field(
        ge=1, description="Of crops; changes speed and memory, and scores in their last bits at most."
    )
    precision: Precision
    methods: list[str] | None = Field(description="To judge on, with the originals; null = all that the crops hold.")
    qualities: list[str] | None = Field(description="To judge on; null = all that the crops hold.")
    perturbations: list[str] = Field(
        description="Of emd_core/detection/perturbations.py: the test split is scored once more under each."
    )


def evaluate(cfg: Evaluate, *, model: In, faces: In, masks: In, evaluation: Out) -> None:
    """model: the trained network; faces, masks: crops and their masks; evaluation: figures and pages.

    Only the test split is read: temperature and threshold come with the network.
    """
    require_known(cfg.perturbations)
    test = FaceCrops(faces, masks, "test", cfg.methods, cfg.qualities)
    if not slices(test.table):
        raise UserError(f"the test split of {masks} has no fakes to judge the network on; check the splits.")
    checkpoint = model / CHECKPOINT
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    device = pick_device()
    detector, calibration = load_detector(checkpoint).to(device), load_calibration(checkpoint)
    learned = load_learned(checkpoint)
    precision = resolve(cfg.precision, device)  # the registered model is served in it
    parts = [network_name(detector.config), *(cfg.methods or []), *(cfg.qualities or []), digest]
    inputs = {"model": model, "faces": faces, "masks": masks}
    with stage_run("evaluate", cfg, inputs, name=" ".join(["evaluate", *parts])) as run, atomic_dir(evaluation) as out:
        scored, pixels = score_conditions(detector, test, cfg.batch_size, precision, cfg.perturbations)
        figures_of, frames = summarise_slices(scored, pixels, calibration), as_they_are(scored)
        metrics: dict[str, Any] = {
            "model": digest,
            "data": read_manifest(masks, MASKS).id,
            "size_mb": round(checkpoint.stat().st_size / 1e6, 3),
            "precision": precision,
            "calibration": calibration and calibration._asdict(),
            "slices": figures_of,
            "localises": detector.localises,
            "unseen": None if learned is None else sorted(set(frames["method"]) - {ORIGINAL, *learned}),
            "unknown": why_unknown(scored, figures_of, localises=detector.localises),
        }
        (out / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        figures = logged(metrics)
        plain, hurt = by_condition(figures_of)
        summed = {f"test/{name}/{figure}" for name in plain for figure in SUMMARY}
        summary = {name: x for name, x in figures.items() if name in summed}
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        scored.to_parquet(out / "predictions.parquet", index=False)
        curves = roc_table(frames, pixels, ORIGINAL)
        curves.to_csv(out / "roc.csv", index=False, float_format="%.5f")
        save_roc(out / "roc.png", curves)
        save_reliability(out / "reliability.png", frames, calibration)
        save_confusions(out / "confusion.png", frames)
        save_panels(out / "panels.png", detector, test, frames, precision)
        pictures = {name: picture(out / f"{name}.png") for name in PICTURES}
        shown = learned_first(plain, metrics["unseen"] or [])
        page = render("evaluation", metrics=metrics, slices=shown, robustness=hurt, **pictures)
        (out / "report.html").write_text(page)
        run.log_model(digest)
        run.set_tags({"precision": precision})
        data = run.log_input(masks, metrics["data"], rows=len(test), context="test")
        run.log_summary(summary)
        run.log_metrics(figures, model=digest, data=data)
        for name in PICTURES:
            run.log_image(np.asarray(Image.open(out / f"{name}.png").convert("RGB")), f"test/{name}")
        run.log_table(worst_frames(detector, test, frames, precision), "worst_frames")
        run.log_artifacts(out)


def learned_first(figures: dict[str, Any], unseen: list[str]) -> dict[str, Any]:
    """The slices, those of methods that the network did not learn behind all others."""
    return dict(sorted(figures.items(), key=lambda item: (item[0].split("/")[0] in unseen, item[0])))


def logged(metrics: dict[str, Any]) -> dict[str, float]:
    """What MLflow gets: a flat name for every figure that was measured."""
    return {f"val/{name}": value for name, value in (metrics["calibration"] or {}).items()} | {
        f"test/{slice_}/{figure}": value
        for slice_, figures in metrics["slices"].items()
        for figure, value in figures.items()
        if value is not None
    }


def picture(path: Path) -> str:
    """A PNG file as base64, for a page that stands alone."""
    return base64.b64encode(path.read_bytes()).decode()
