"""Does the registered artifact answer as the checkpoint does, away from this repository, and how fast?"""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.registry import answer_example
from components.tracking.server import store_seen_from
from emd_core.detection.inference import predict
from emd_core.evaluation.gating import Check, Service
from emd_core.faces.boxes import Square, cut
from emd_core.models.checkpoint import load_detector
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import pick_device

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TOLERANCE = 0.005  # of scores in [0, 1]; masks come as 8 bits, and devices round differently
TIMEOUT_S = 900


class NotServed(Exception):
    """The message says why the registered artifact cannot serve; no full stop."""


def check_serving(version: "ModelVersion", checkpoint: Path) -> tuple[Check, Service | None]:
    """Let the registered artifact answer its stored example in a clean process, and compare with the checkpoint.

    The check is one of the decision's; Service is None where there is no answer.
    """
    import mlflow

    service, difference = None, None
    with TemporaryDirectory() as empty:
        try:
            folder = mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}", dst_path=empty)
            stored = Path(folder) / "artifacts" / CHECKPOINT
            require_same_file(stored, checkpoint)
            answer = answer_in_clean_process(f"models:/{version.name}/{version.version}", folder)
            service = Service(answer["latency_ms"], stored.stat().st_size / 1e6)
            difference = largest_difference(answer["rows"], own_answer(folder, checkpoint))
            reason = f"the registered artifact answers within {difference:.1g} of the checkpoint, in a clean process"
            if not difference <= TOLERANCE:  # NaN too
                reason = f"the registered artifact's answer differs from the checkpoint's by {difference:.2g}"
        except (mlflow.MlflowException, OSError) as error:
            reason = f"the registered artifact cannot be downloaded ({one_line(error)})"
        except NotServed as error:
            reason = str(error)
    passed = difference is not None and difference <= TOLERANCE
    if not passed:
        reason += f"; delete version {version.version} to have it registered anew"
    check = Check(
        name="serving",
        slice="",
        figure="difference",
        value=difference,
        limit=TOLERANCE,
        verdict="passed" if passed else "failed",
        reason=reason,
    )
    return check, service


def require_same_file(stored: Path, checkpoint: Path) -> None:
    """NotServed if the registry holds another checkpoint than the one that was judged."""
    if not stored.is_file():
        raise NotServed(f"the registered artifact holds no {CHECKPOINT}")
    if hashlib.sha256(stored.read_bytes()).digest() != hashlib.sha256(checkpoint.read_bytes()).digest():
        raise NotServed("the registered artifact holds another checkpoint than the one that was judged")


def answer_in_clean_process(model: str, folder: str) -> dict[str, Any]:
    """What `answer_example` writes: rows and latency_ms.

    Args:
        model: its address in the registry, from which it is loaded as its users do.
        folder: its files, for the example.
    """
    with TemporaryDirectory() as work:
        return _answer(model, folder, Path(work))


def _answer(model: str, folder: str, work: Path) -> dict[str, Any]:
    out = work / "answer.json"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    environment["MLFLOW_TRACKING_URI"] = store_seen_from(work)
    # -P: not even the script's own folder is searched for modules.
    command = [sys.executable, "-P", answer_example.__file__, model, folder, str(out)]
    try:
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise NotServed(f"the registered artifact gave no answer in {TIMEOUT_S} s") from None
    if done.returncode != 0 or not out.is_file():
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1].replace(f"{folder}/", "")
        raise NotServed(f"the registered artifact does not load and answer in a clean process ({one_line(last)})")
    answer: dict[str, Any] = json.loads(out.read_text())
    return answer


def own_answer(folder: str, checkpoint: Path) -> list[tuple[float, np.ndarray | None]]:
    """Score and mask (size x size, [0, 1]; None: it does not localise) that the checkpoint itself gives each stored
    picture."""
    from mlflow.models import Model

    from components.registry.detector_model import METRICS, judged_in
    from emd_core.storage.pictures import decode

    precision = judged_in(Path(folder) / "artifacts" / METRICS)
    detector = load_detector(checkpoint).to(pick_device())
    example: Any = Model.load(folder).load_input_example(folder)
    answers = []
    for file in example["image"]:
        image = decode(file)
        if image is None:
            raise NotServed("the stored example is no picture")
        crop = cut(image, Square(0, 0, image.shape[0]), detector.side)
        (score,), masks = predict(detector, torch.from_numpy(crop).permute(2, 0, 1)[None], precision)
        answers.append((float(score), None if masks is None else masks[0]))
    return answers


def largest_difference(rows: list[dict[str, Any]], expected: list[tuple[float, np.ndarray | None]]) -> float:
    """Over scores and mask pixels, in [0, 1]. NotServed where an answer is missing or has another shape."""
    from emd_core.storage.pictures import decode

    if len(rows) != len(expected):
        raise NotServed(f"the registered artifact answers {len(expected)} pictures with {len(rows)} rows")
    differences = []
    for row, (score, mask) in zip(rows, expected, strict=True):
        if row["status"] != "ok" or (row["mask"] is None) != (mask is None):
            raise NotServed(f"the registered artifact answers its example with {row['status']} {row['reason']}".strip())
        differences.append(abs(row["score"] - score))
        if mask is not None:
            served = decode(base64.b64decode(row["mask"]))
            if served is None or served.shape[:2] != mask.shape:
                raise NotServed("the registered artifact answers its example with a mask of another size")
            differences.append(float(np.abs(served[..., 0] / 255 - mask).max()))
    return max(differences)


def one_line(text: object) -> str:
    """An error's words for a sentence."""
    return " ".join(str(text).split()).rstrip(".")[:300]
