"""Decide whether the model just evaluated may be promoted, and write down why.

Writes decision.json (what `promote` reads) and decision.md (for people). Refusing is a result, not an error.
"""

import json
from pathlib import Path
from typing import Any

from components import In, Out
from components.tracking import stage_run
from emd_core.atomic import atomic_dir
from emd_core.errors import UserError
from emd_core.gating import Decision, Gate, decide


def gate(cfg: Gate, *, evaluation: In, champion: In = None, decision: Out) -> None:  # type: ignore[assignment]
    """evaluation, champion: folders that hold metrics.json; without a champion only the floors count."""
    import mlflow

    metrics = read_metrics(evaluation)
    result = decide(metrics, None if champion is None else read_metrics(champion), cfg)
    with atomic_dir(decision) as out:
        (out / "decision.json").write_text(result.model_dump_json(indent=2) + "\n")
        (out / "decision.md").write_text(as_markdown(result))
    print(result.summary)
    with stage_run("gate", cfg, {"evaluation": evaluation, "champion": champion}):
        mlflow.set_tag("promote", str(result.promote).lower())
        mlflow.log_artifacts(str(decision))


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of an evaluation, its shape checked as far as the gate relies on it."""
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run evaluate first (`dvc repro evaluate`).") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); run evaluate again.") from None
    if not isinstance(metrics, dict) or not isinstance(metrics.get("slices"), dict) or "model" not in metrics:
        raise UserError(f"{path} must hold 'slices' and 'model', as evaluate writes them; run evaluate again.")
    return metrics


def as_markdown(decision: Decision) -> str:
    """The decision as a page: the sentence, then one row per check."""
    rows = "\n".join(
        f"| {c.slice} | {c.name} | {c.value:.4g} | {c.limit:.4g} | {'yes' if c.passed else '**no**'} |"
        for c in decision.checks
    )
    return (
        f"# {'Promote' if decision.promote else 'Do not promote'}\n\n{decision.summary}\n\n"
        f"Candidate {decision.model}, champion {decision.champion or 'none'}.\n\n"
        f"| slice | check | value | limit | passed |\n|---|---|---|---|---|\n{rows}\n"
    )
