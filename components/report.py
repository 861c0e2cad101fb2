"""Say why a model was refused: the gate's reasons, and the videos that it judged most wrongly."""

import json

import pandas as pd
from pydantic import Field

from components import In, Out
from components.gate import as_markdown
from components.promote import read_decision, read_predictions, refuse
from components.tracking.run import stage_run
from emd_core.config import Config
from emd_core.evaluation.slices import as_they_are
from emd_core.storage.atomic import atomic_dir


class Report(Config):
    worst: int = Field(ge=0, description="Number of misjudged test videos that the page lists.")


def report(cfg: Report, *, evaluation: In, decision: In, refusal: Out) -> None:
    """refusal: report.md and worst.json; the same goes to MLflow, where the run is marked as refused."""
    verdict = read_decision(decision)
    worst = worst_videos(as_they_are(read_predictions(evaluation)), cfg.worst)
    with stage_run("report", cfg, {"evaluation": evaluation, "decision": decision}) as run:
        with atomic_dir(refusal) as out:
            rows = "\n".join(f"| {video} | {score:.3f} |" for video, score in worst.items())
            table = f"\n## Judged most wrongly\n\n| video | mean score (1 = manipulated) |\n|---|---|\n{rows}\n"
            (out / "report.md").write_text(as_markdown(verdict) + (table if worst else ""))
            (out / "worst.json").write_text(json.dumps(worst, indent=2) + "\n")
        run.log_artifacts(refusal, "refusal")
        refuse(run, verdict)


def worst_videos(frames: pd.DataFrame, count: int) -> dict[str, float]:
    """The videos on the wrong side of 0.5, the most wrong first: name -> mean score of its frames."""
    videos = frames.groupby("video").agg(label=("label", "first"), score=("score", "mean"))
    error = (videos["score"] - videos["label"]).abs()
    chosen = error[error > 0.5].sort_values(ascending=False).index[:count]
    return {str(video): float(videos["score"][video]) for video in chosen}
