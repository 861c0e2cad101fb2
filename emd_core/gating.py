"""May this model replace the one in use? A pure decision on measured numbers.

Metrics are what `evaluate` writes: {"slices": {"Face2Face/c23": {"frame_accuracy": 0.98, "videos": 140, …}, …},
"overall": {…}, "model": digest, "data": id of the table of masks}; accuracies in [0, 1] on the test split.
"""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from emd_core.config import Config
from emd_core.errors import UserError

METRIC = "frame_accuracy"


class Gate(Config):
    floors: dict[str, float] = Field(
        min_length=1, description='Least frame accuracy per slice, in [0, 1], e.g. {"Face2Face/c23": 0.95}.'
    )
    max_drop: float = Field(ge=0, le=1, description="How far a slice's frame accuracy may fall below the champion's.")
    min_videos: int = Field(ge=1, description="Least number of test videos in a slice, for its number to count.")


class Check(Config):
    name: str  # floor, drop, videos
    slice: str
    value: float  # as measured on the candidate
    limit: float  # the least value that passes
    passed: bool
    reason: str


class Decision(Config):
    promote: bool
    summary: str  # one sentence
    checks: list[Check]
    model: str  # digest of the candidate
    data: str  # id of the table it was measured on; "" if the metrics do not tell
    champion: str  # digest of the model it was compared with; "" if there was none
    cfg: Gate  # what was asked of the candidate, so that the same can be asked again before promotion


def decide(metrics: Mapping[str, Any], champion: Mapping[str, Any] | None, cfg: Gate) -> Decision:
    """Promote if every slice of `cfg.floors` has enough videos, reaches its floor and keeps up with the champion.

    A value equal to its limit passes. A slice that the champion was never measured on has nothing to keep up
    with; `champion=None` is the first promotion. Raises UserError if the candidate lacks a slice or its number.
    """
    checks: list[Check] = []
    for name, floor in cfg.floors.items():
        value, videos = _number(metrics, name, METRIC), _number(metrics, name, "videos")
        checks.append(_at_least("videos", name, videos, cfg.min_videos, "test videos", "{:.0f}"))
        checks.append(_at_least("floor", name, value, floor, "frame accuracy"))
        if champion is not None and name in champion["slices"]:
            limit = _number(champion, name, METRIC) - cfg.max_drop
            checks.append(_at_least("drop", name, value, limit, "frame accuracy, the champion's less the margin,"))
    failed = [check for check in checks if not check.passed]
    against = _against(metrics, champion)
    if failed:
        summary = f"Refused ({against}): " + "; ".join(check.reason for check in failed) + "."
    else:
        summary = f"Promote ({against}): all {len(checks)} checks passed."
    return Decision(
        promote=not failed,
        summary=summary,
        checks=checks,
        model=str(metrics["model"]),
        data=str(metrics.get("data", "")),
        champion="" if champion is None else str(champion["model"]),
        cfg=cfg,
    )


def _against(metrics: Mapping[str, Any], champion: Mapping[str, Any] | None) -> str:
    if champion is None:
        return "no champion yet, so this is the first promotion"
    if metrics.get("data") != champion.get("data"):
        return "compared with the champion, which was measured on other data"
    return "compared with the champion on the same data"


def _at_least(name: str, slice_: str, value: float, limit: float, what: str, form: str = "{:.4f}") -> Check:
    passed = value > limit or math.isclose(value, limit, abs_tol=1e-9)  # 0.9 - 0.02 is not 0.88 in binary
    relation = "reaches" if passed else "is below"
    reason = f"{slice_}: {form.format(value)} {relation} the limit of {form.format(limit)} {what}".rstrip(",")
    return Check(name=name, slice=slice_, value=value, limit=limit, passed=passed, reason=reason)


def _number(metrics: Mapping[str, Any], slice_: str, key: str) -> float:
    """A measured number; NaN and None mean that it could not be measured, which must not pass a gate."""
    measured = metrics["slices"].get(slice_)
    if measured is None:
        raise UserError(
            f"gate.floors names the slice '{slice_}', but the evaluation measured only "
            f"{', '.join(sorted(metrics['slices'])) or 'none'}; add test videos of it to the data or drop the floor."
        )
    value = measured.get(key)
    if value is None or not math.isfinite(value):
        raise UserError(f"the evaluation holds no {key} for the slice '{slice_}' ({value}); run evaluate again.")
    return float(value)
