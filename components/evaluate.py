"""Judge the trained network on the test split.

Writes metrics.json (per method and quality), predictions.parquet (a row per frame), roc.csv, roc.png, panels.png and
report.html, a page that shows them all.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import Field

from components import In, Out
from components.pages import render
from components.tracking import stage_run
from emd_core.atomic import atomic_dir
from emd_core.config import Config
from emd_core.dataset import FaceCrops
from emd_core.evaluation import roc_table, score_frames
from emd_core.figures import save_panels, save_roc
from emd_core.manifest import MASKS, ORIGINAL, read_manifest
from emd_core.metrics import summarise_slices
from emd_core.models.checkpoint import CHECKPOINT, load_emd
from emd_core.precision import Precision, pick_device


class Evaluate(Config):
    """Section evaluate of params.yaml."""

    batch_size: int = Field(
        ge=1, description="Of crops; changes speed and memory, and scores in their last bits at most."
    )
    precision: Precision


def evaluate(cfg: Evaluate, *, model: In, faces: In, masks: In, evaluation: Out) -> None:
    """model: the trained network; faces, masks: crops and their masks; evaluation: figures and pages."""
    import mlflow

    crops = FaceCrops(faces, masks, "test")
    checkpoint = model / CHECKPOINT
    emd = load_emd(checkpoint).to(pick_device())
    with stage_run("evaluate", cfg, {"faces": faces, "masks": masks}), atomic_dir(evaluation) as out:
        frames, histograms = score_frames(emd, crops, cfg.batch_size, cfg.precision)
        metrics: dict[str, Any] = {
            "model": hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12],
            "data": read_manifest(masks, MASKS).id,
            "slices": summarise_slices(frames, histograms),
        }
        (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        frames.to_parquet(out / "predictions.parquet", index=False)
        curves = roc_table(frames, histograms, ORIGINAL)
        curves.to_csv(out / "roc.csv", index=False, float_format="%.5f")
        save_roc(out / "roc.png", curves)
        save_panels(out / "panels.png", emd, crops, frames, cfg.precision)
        page = render("evaluation", metrics=metrics, **{n: picture(out / f"{n}.png") for n in ("roc", "panels")})
        (out / "report.html").write_text(page)
        for name, figures in metrics["slices"].items():
            mlflow.log_metrics({f"test/{name}/{figure}": value for figure, value in figures.items()})
        mlflow.log_artifacts(str(out))


def picture(path: Path) -> str:
    """A PNG file as base64, for a page that stands alone."""
    return base64.b64encode(path.read_bytes()).decode()
