"""How often chance alone makes the gate refuse a model that is as good as the champion, and how often it sees a loss.

    python -m benchmarks.gate_noise   # about two minutes

Both models are drawn: a target is hard as a whole, half of its difficulty is the same for both, and the champion judges
one frame in ten wrong on average. One slice and one figure, so one check of the many that a promotion has.
"""

from typing import Annotated

import numpy as np
import pandas as pd
import typer

from emd_core.detection.metrics import COUNTS
from emd_core.evaluation.comparison import compare
from emd_core.evaluation.gating import Comparison, Figure, Gate, decide

SLICE = "Face2Face/c23"
FIGURE: Figure = "frame_accuracy"
FRAMES = 10  # of a video
ERROR = 0.1  # of the champion
CASES = [("sample", 10, 0.02), ("FaceForensics++", 140, 0.005)]  # targets of the test split, margin
LOSSES = [0.0, 0.02, 0.05, 0.1]


def draw(rng: np.random.Generator, targets: int, loss: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of a candidate that is wrong on `loss` more of the frames, and of its champion."""
    keys = pd.MultiIndex.from_product(
        [range(targets), ["original", "Face2Face"], range(FRAMES)], names=["target", "method", "frame"]
    )
    rows = keys.to_frame(index=False).assign(quality="c23", source="", mask_share=np.nan, **dict.fromkeys(COUNTS, 0))
    rows["video"] = rows["method"] + rows["target"].astype(str)
    rows["label"] = (rows["method"] != "original").astype(int)
    shared, *own = rng.beta(0.5, 4.5, (3, targets))  # of mean ERROR, most targets easy and a few hard
    tables = []
    for difficulty, error in zip(own, (ERROR + loss, ERROR), strict=True):
        wrong = rng.random(len(rows)) < ((shared + difficulty) / 2 * error / ERROR)[rows["target"]]
        tables.append(rows.assign(score=np.where(wrong, 1 - rows["label"], rows["label"])))
    return tables[0], tables[1]


def main(promotions: Annotated[int, typer.Option(help="To draw for each case.")] = 300) -> None:
    """Print the share of promotions that the check refuses."""
    metrics = {"model": "candidate", "slices": {SLICE: {FIGURE: 1.0, "videos": 1}}}
    for name, targets, margin in CASES:
        cfg = Gate(
            floors={"Face2Face": {"c23": {FIGURE: 0.0}}},
            max_drop={FIGURE: margin},
            no_drop=[SLICE],
            min_videos=1,
            max_latency_ms=None,
            max_size_mb=None,
        )
        for loss in LOSSES:
            rng = np.random.default_rng(0)
            drawn = (compare(*draw(rng, targets, loss)) for _ in range(promotions))
            refused = sum(not decide(metrics, cfg, comparison=Comparison("champion", d)).promote for d in drawn)
            print(f"{name}: {targets} targets, margin {margin}, true loss {loss}: {refused / promotions:.3f} refused")


if __name__ == "__main__":
    typer.run(main)
