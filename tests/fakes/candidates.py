"""Candidates for promotion: real crops of noise, tiny networks with known answers, predictions made to measure."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from components.gate import write_decision
from components.promote import Promote, promote
from emd_core.detection.crops import FaceCrops
from emd_core.evaluation.gating import Gate, decide
from emd_core.evaluation.scoring import score_frames
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.storage.manifest import MASKS, read_manifest
from tests.evaluation.test_evaluate import SIZE, write_crops

SLICE = "Face2Face/c23"
HURT = f"{SLICE}/jpeg_q30"
GATE = Gate(
    floors={"Face2Face": {"c23": {"frame_accuracy": 0.9}}},
    max_drop={"frame_accuracy": 0.02},
    no_drop=[SLICE],
    min_videos=5,
    max_latency_ms=60_000,
    max_size_mb=10,
)


@dataclass
class Candidate:
    """What the pipeline made before promotion."""

    model: Path
    evaluation: Path
    decision: Path
    data: Path  # holds faces and masks
    digest: str

    def promote(self, name: str) -> None:
        promote(
            Promote(model_name=name, batch_size=4),
            model=self.model,
            evaluation=self.evaluation,
            decision=self.decision,
            faces=self.data / "faces",
            masks=self.data / "masks",
        )


def write_constant(folder: Path, activation: float) -> Path:
    """A checkpoint that calls every crop manipulated, the surer the greater its activation is; its folder."""
    torch.manual_seed(0)
    network = MultiTask(MultiTaskConfig(kind="multitask", size=SIZE, expression=False), None)
    last = network.encoder.encoder[-2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([activation, 0.0]).repeat_interleave(len(last.bias) // 2))
    folder.mkdir(parents=True)
    save_detector(folder / CHECKPOINT, network)
    return folder


def write_candidate(
    folder: Path, model: Path, data: Path, *, accuracy: float, right: bool, hurt: bool | None = None
) -> Candidate:
    """A candidate that the gate has judged.

    accuracy: what its metrics.json says. right: whether its predictions are all right, or all wrong; that decides the
    comparison with a champion. hurt: the same of crops under a perturbation, which the gate then asks for too.
    """
    checkpoint = model / CHECKPOINT
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    made = Candidate(model, folder / "evaluation", folder / "decision", data, digest)
    made.evaluation.mkdir(parents=True)
    figures = {"frame_accuracy": accuracy, "videos": 10}
    identity = {"model": digest, "data": read_manifest(data / "masks", MASKS).id, "size_mb": 1.0}
    tables, gate = [predictions(checkpoint, data, right)], GATE
    metrics = {"slices": {SLICE: figures}, **identity}
    if hurt is not None:
        table = predictions(checkpoint, data, hurt)
        tables.append(table.assign(quality=table["quality"] + "/jpeg_q30"))
        metrics["slices"][HURT] = figures
        gate = GATE.model_copy(update={"no_drop": [SLICE, HURT]})
    (made.evaluation / "metrics.json").write_text(json.dumps(metrics))
    pd.concat(tables).to_parquet(made.evaluation / "predictions.parquet", index=False)
    write_decision(made.decision, decide(metrics, gate))
    return made


def predictions(checkpoint: Path, data: Path, right: bool) -> pd.DataFrame:
    crops = FaceCrops(data / "faces", data / "masks", "test")
    frames, _ = score_frames(load_detector(checkpoint), crops, 4, "fp32")
    label = frames["label"].to_numpy(np.float64)
    return frames.assign(score=label if right else 1 - label)


__all__ = ["GATE", "HURT", "SLICE", "Candidate", "write_candidate", "write_constant", "write_crops"]
