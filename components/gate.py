"""Decide whether the model just evaluated may be promoted, and write down why. Refusing is a result, not an error.

The stage judges the model alone: the champion, which lives in the registry, and the latency are `promote`'s to add.
"""

from pathlib import Path
from typing import Any

from components import In, Out
from components.tracking.run import stage_run
from emd_core.errors import UserError
from emd_core.evaluation.gating import WORDS, Check, Decision, Gate, decide
from emd_core.pages.render import render
from emd_core.reading import read_json
from emd_core.storage.atomic import atomic_dir

AT_MOST = {"latency", "size", "serving"}  # checks whose limit is the greatest value that passes
DIGITS = {"videos": ".0f", "latency_ms": ".1f", "size_mb": ".1f"}  # of others, four
TITLES = {**WORDS, "latency_ms": "latency, ms per picture", "size_mb": "size, MB", "videos": "test videos"}
TITLES["difference"] = "served answer, difference from the checkpoint's"


def gate(cfg: Gate, *, evaluation: In, decision: Out) -> None:
    """evaluation: folder that holds metrics.json; decision: decision.json, decision.md and decision.html."""
    result = decide(read_metrics(evaluation), cfg)
    write_decision(decision, result)
    print(result.summary)
    with stage_run("gate", cfg, {"evaluation": evaluation}) as run:
        run.set_tags({"promote": str(result.promote).lower(), "decision": result.summary, "model.digest": result.model})
        run.log_artifacts(decision)


def write_decision(folder: Path, decision: Decision) -> None:
    """Write decision.json (what `promote` reads), decision.md and decision.html (for people) into a new `folder`."""
    rows = [(check.verdict, *cells(check)) for check in decision.checks]
    with atomic_dir(folder) as out:
        (out / "decision.json").write_text(decision.model_dump_json(indent=2) + "\n")
        (out / "decision.md").write_text(as_markdown(decision))
        (out / "decision.html").write_text(render("decision", decision=decision, rows=rows))


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of an evaluation, its shape checked as far as the gate relies on it."""
    path = folder / "metrics.json"
    metrics = read_json(path, remedy="run evaluate (`dvc repro evaluate`)")
    if not isinstance(metrics, dict) or not isinstance(metrics.get("slices"), dict) or "model" not in metrics:
        raise UserError(f"{path} must hold 'slices' and 'model', as evaluate writes them; run evaluate again.")
    return metrics


def cells(check: Check) -> tuple[str, str, str, str, str]:
    """A check in words: slice, what is asked, its value, limit and 95 % interval."""
    drop = check.name == "drop"
    form = f"{'+' if drop else ''}{DIGITS.get(check.figure, '.4f')}"
    what = f"{TITLES[check.figure]}{', change from champion' if drop else ''}"
    unknown = "not measured yet" if check.verdict == "pending" else "unknown"
    limit = f"{'≤' if check.name in AT_MOST else '≥'} {check.limit:{form}}{' or noise' if drop else ''}"
    interval = "" if check.interval is None else " to ".join(f"{end:{form}}" for end in check.interval)
    return check.slice or "model", what, unknown if check.value is None else f"{check.value:{form}}", limit, interval


def as_markdown(decision: Decision) -> str:
    """The decision as a page: the sentence, a refusal's reasons, then one row per check, failed ones first."""
    reasons = "".join(f"- {check.reason}\n" for check in decision.checks if check.verdict == "failed")
    rows = "\n".join(
        f"| {' | '.join(cells(check))} | {'**failed**' if check.verdict == 'failed' else check.verdict} |"
        for check in decision.checks
    )
    return (
        f"# {'Promote' if decision.promote else 'Do not promote'}\n\n{reasons or decision.summary}\n\n"
        f"Candidate {decision.model}, champion {decision.champion or 'none'}.\n\n"
        f"| slice | figure | value | limit | 95 % interval | verdict |\n|---|---|---|---|---|---|\n{rows}\n"
    )
