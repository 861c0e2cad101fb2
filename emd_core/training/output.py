"""What both training stages leave beside their checkpoint."""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import pandas as pd

from emd_core.config import Config, digest


def input_key(cfg: Config, inputs: Any, pace: Set[str] = frozenset()) -> str:
    """Identifies a training: a killed run goes on only with the same inputs and parameters, but for those of `pace`."""
    return digest([cfg.model_dump(mode="json", exclude=set(pace)), inputs])


def best_metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """The metrics of the epoch whose model was kept, as best/<name>: the best validated one with all branches."""
    validated = [m for m in history if "val/accuracy" in m]

    def quality(m: dict[str, float]) -> tuple[float, ...]:
        accuracy = m.get("val/balanced_accuracy", m["val/accuracy"])
        return m.get("train/branches", 0), accuracy, -m.get("val/loss", 0.0)

    # None of a network that was kept as it was published, without crops to validate it on.
    best = max(validated, key=quality, default={})
    return {f"best/{name.replace('/', '_')}": value for name, value in best.items()}


def write_training_output(work: Path, history: list[dict[str, float]]) -> None:
    """curves.csv (one row per epoch) and metrics.json (the best epoch)."""
    pd.DataFrame(history).rename_axis("epoch").to_csv(work / "curves.csv")
    (work / "metrics.json").write_text(json.dumps(best_metrics(history), indent=2, allow_nan=False) + "\n")
