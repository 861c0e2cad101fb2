"""May this model replace the one in use? A pure decision on measured numbers.

Metrics are what `evaluate` writes: {"slices": {"Face2Face/c23": {"frame_accuracy": 0.98, "miou": 0.91, "videos": 140,
…}, …}, "model": digest, "data": id of the table of masks, "size_mb": 93.1}; figures in [0, 1] on the test split, None
where the slice cannot tell.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from emd_core.config import Config
from emd_core.errors import UserError

Figure = Literal["frame_accuracy", "miou"]
Verdict = Literal["failed", "pending", "passed"]  # pending: it can only be measured at promotion
Share = Annotated[float, Field(ge=0, le=1)]
Qualities = Annotated[dict[str, Annotated[dict[Figure, Share], Field(min_length=1)]], Field(min_length=1)]
WORDS: dict[str, str] = {"frame_accuracy": "frame accuracy", "miou": "mIoU"}
UNKNOWN = {"miou": "no fake of it has a known mask"}  # why a slice cannot tell a figure


class Gate(Config):
    floors: Annotated[dict[str, Qualities], Field(min_length=1)] = Field(
        description="Least figures by method and quality, e.g. {Face2Face: {c23: {frame_accuracy: 0.95, miou: 0.8}}}."
    )
    max_drop: dict[Figure, Share] = Field(
        min_length=1, description="How far each figure may fall below the champion's on every slice of no_drop."
    )
    no_drop: list[str] = Field(min_length=1, description="Slices on which the champion must not be lost against.")
    min_videos: int = Field(ge=1, description="Least number of test videos in a slice, for its figures to count.")
    max_latency_ms: float | None = Field(gt=0, description="Per picture, measured at promotion; null = any.")
    max_size_mb: float | None = Field(gt=0, description="Of the checkpoint, in 10^6 bytes; null = any.")

    def floors_by_slice(self) -> dict[str, dict[Figure, Share]]:
        """The floors under the slices' names, "method/quality"."""
        return {f"{method}/{quality}": f for method, by in self.floors.items() for quality, f in by.items()}


class Difference(NamedTuple):
    """A figure of two models on the same frames."""

    candidate: float
    champion: float
    low: float  # 95 % interval of candidate - champion
    high: float


class Comparison(NamedTuple):
    """The candidate against the champion, as `comparison.compare` finds it."""

    model: str  # digest of the champion
    slices: Mapping[str, Mapping[str, Difference]]  # slice -> figure; what cannot be compared is not there
    localises: bool = True  # whether the champion does


class Service(NamedTuple):
    """How the registered model answers."""

    latency_ms: float  # per picture
    size_mb: float  # 10^6 bytes


class Check(Config):
    name: str  # floor, drop, videos, latency, size
    slice: str  # "" where it is about the whole model
    figure: str  # frame_accuracy, miou, videos, latency_ms, size_mb
    value: float | None  # as measured, for a drop candidate - champion; None: it was not
    limit: float  # the last value that passes: the least one, of latency and size the greatest
    interval: tuple[float, float] | None = None  # 95 %, of the value
    verdict: Verdict
    reason: str  # one sentence without its full stop


class Decision(Config):
    promote: bool
    summary: str  # one sentence
    checks: list[Check]  # failed ones first, then pending ones
    model: str  # digest of the candidate
    data: str  # id of the table it was measured on; "" if the metrics do not tell
    champion: str  # digest of the model it was compared with; "" if there was none
    cfg: Gate  # what was asked of the candidate, so that the same can be asked again before promotion


def decide(
    metrics: Mapping[str, Any], cfg: Gate, *, comparison: Comparison | None = None, service: Service | None = None
) -> Decision:
    """Promote if no check fails; a value equal to its limit passes.

    Without comparison and service the model is judged alone, as in DVC, and what only promotion can measure is pending;
    `service` without `comparison` is a first promotion. A drop fails if it is beyond the margin and its interval lies
    below 0: what may be noise blocks nothing. What a slice cannot tell does not pass.

    Raises UserError if the metrics lack a slice of `cfg` or a figure of it.
    """
    floors = cfg.floors_by_slice()
    checks = [_floor(metrics, name, figure, limit) for name, least in floors.items() for figure, limit in least.items()]
    if comparison is not None:
        for name in cfg.no_drop:
            checks += [_drop(metrics, comparison, name, figure, margin) for figure, margin in cfg.max_drop.items()]
    for name in dict.fromkeys([*floors, *cfg.no_drop]):
        checks.append(_videos(_figure(metrics, name, "videos"), name, cfg.min_videos))
    latency, size = (None, metrics.get("size_mb")) if service is None else service
    if cfg.max_latency_ms is not None:
        checks.append(_at_most("latency", "latency_ms", latency, cfg.max_latency_ms, "ms per picture"))
    if cfg.max_size_mb is not None:
        checks.append(_at_most("size", "size_mb", size, cfg.max_size_mb, "MB"))
    checks.sort(key=lambda check: ("failed", "pending", "passed").index(check.verdict))
    promote = checks[0].verdict != "failed"
    return Decision(
        promote=promote,
        summary=f"{'Promote' if promote else 'Refused'} ({_against(metrics, comparison, service)}): {_told(checks)}.",
        checks=checks,
        model=str(metrics["model"]),
        data=str(metrics.get("data", "")),
        champion="" if comparison is None else comparison.model,
        cfg=cfg,
    )


def _against(metrics: Mapping[str, Any], comparison: Comparison | None, service: Service | None) -> str:
    if comparison is None:
        return "judged alone" if service is None else "no champion yet, so this is the first promotion"
    if comparison.model == metrics["model"]:
        return "compared with itself, as it is the champion"
    return f"compared with champion {comparison.model} on the same frames"


def _told(checks: list[Check]) -> str:
    failed = [check.reason for check in checks if check.verdict == "failed"]
    if failed:
        return "; ".join(failed)
    pending = sum(check.verdict == "pending" for check in checks)
    if not pending:
        return f"all {len(checks)} checks passed"
    return f"{len(checks) - pending} checks passed, {pending} left to promotion"


def _videos(value: float | None, slice_: str, limit: int) -> Check:
    passed = value is not None and value >= limit
    relation = "reaches" if passed else "is below"
    reason = f"{slice_}: {value or 0:.0f} {relation} the limit of {limit} test videos"
    return Check(
        name="videos", slice=slice_, figure="videos", value=value, limit=limit, verdict=_verdict(passed), reason=reason
    )


def _floor(metrics: Mapping[str, Any], slice_: str, figure: str, limit: float) -> Check:
    value, word = _figure(metrics, slice_, figure), WORDS[figure]
    low, high = (metrics["slices"][slice_].get(f"{figure}_{end}") for end in ("low", "high"))
    passed = value is not None and _reaches(value, limit)
    if value is None:
        reason = f"{slice_}: {word} is unknown ({_why(metrics, slice_, figure)}), but {limit:.4f} is asked for"
    else:
        relation = "reaches" if passed else "is below"
        reason = f"{slice_}: {value:.4f} {relation} the limit of {limit:.4f} {word}"
    return Check(
        name="floor",
        slice=slice_,
        figure=figure,
        value=value,
        limit=limit,
        interval=None if low is None or high is None else (low, high),
        verdict=_verdict(passed),
        reason=reason,
    )


def _why(metrics: Mapping[str, Any], slice_: str, figure: str) -> str:
    """Why the candidate has no such figure."""
    return metrics.get("unknown", {}).get(slice_, {}).get(figure) or UNKNOWN.get(figure, "not measured")


def _drop(metrics: Mapping[str, Any], comparison: Comparison, slice_: str, figure: str, margin: float) -> Check:
    """Whether the candidate keeps up with the champion on one figure of one slice."""
    found = comparison.slices.get(slice_, {}).get(figure)
    if figure == "miou" and not comparison.localises and metrics.get("localises", True):
        reason = f"{slice_}: no loss of {WORDS[figure]}, as the champion does not localise"
        return Check(
            name="drop", slice=slice_, figure=figure, value=None, limit=-margin, verdict="passed", reason=reason
        )
    if found is None or not all(map(math.isfinite, found)):
        scored = slice_ in comparison.slices
        why = _why(metrics, slice_, figure) if scored else "it was not scored on this slice"
        reason = f"{slice_}: {WORDS[figure]} cannot be compared with the champion's ({why})"
        return Check(
            name="drop", slice=slice_, figure=figure, value=None, limit=-margin, verdict="failed", reason=reason
        )
    change = found.candidate - found.champion
    within, sure = _reaches(change, -margin), found.high < 0
    if change >= 0:
        outcome = "no loss"
    elif within:
        outcome = f"a loss within the margin of {margin:.4f}"
    else:
        outcome = f"a loss beyond the margin of {margin:.4f}, {'and not by chance' if sure else 'but within noise'}"
    reason = (
        f"{slice_}: {WORDS[figure]} {found.candidate:.4f}, the champion's {found.champion:.4f}: {outcome} "
        f"(95 % interval of the change {found.low:+.4f} to {found.high:+.4f})"
    )
    return Check(
        name="drop",
        slice=slice_,
        figure=figure,
        value=change,
        limit=-margin,
        interval=(found.low, found.high),
        verdict=_verdict(within or not sure),
        reason=reason,
    )


def _at_most(name: str, figure: str, value: float | None, limit: float, unit: str) -> Check:
    if value is None:
        reason = f"{name}: measured at promotion; the limit is {limit:g} {unit}"
        return Check(name=name, slice="", figure=figure, value=None, limit=limit, verdict="pending", reason=reason)
    passed = _reaches(limit, value)
    relation = "is within" if passed else "is not within"
    reason = f"{name}: {value:.1f} {relation} the limit of {limit:g} {unit}"
    measured = value if math.isfinite(value) else None
    verdict = _verdict(passed)
    return Check(name=name, slice="", figure=figure, value=measured, limit=limit, verdict=verdict, reason=reason)


def _verdict(passed: bool) -> Verdict:
    return "passed" if passed else "failed"


def _reaches(value: float, limit: float) -> bool:
    return value > limit or math.isclose(value, limit, abs_tol=1e-9)  # 0.88 - 0.9 is not -0.02 in binary


def _figure(metrics: Mapping[str, Any], slice_: str, key: str) -> float | None:
    """A figure of a slice; None is one that the slice cannot tell, NaN one that no evaluation writes."""
    measured = metrics["slices"].get(slice_)
    if measured is None:
        raise UserError(
            f"the gate asks for the slice '{slice_}' (gate.floors, gate.no_drop), but the evaluation measured only "
            f"{', '.join(sorted(metrics['slices'])) or 'none'}; add test videos of it to the data or do not ask for it."
        )
    value = measured.get(key, math.nan)
    if value is not None and not math.isfinite(value):
        raise UserError(f"the evaluation holds no {key} for the slice '{slice_}' ({value}); run evaluate again.")
    return None if value is None else float(value)
