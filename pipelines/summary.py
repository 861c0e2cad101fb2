"""Print what the last run came to: results, the gate's decision, the registered model, where to look."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.promote import Promote
from components.registry.versions import CHAMPION, held, registered
from components.tracking.server import connect
from emd_core.config import read_params, section
from emd_core.evaluation.slices import by_condition
from emd_core.reading import read_json

UI = "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"  # its other mode is for language models
FIGURES = {
    "frame_accuracy": "frame acc.",
    "frame_auc": "frame AUC",
    "video_accuracy": "video acc.",
    "pixel_accuracy": "pixel acc.",
    "pixel_accuracy_floor": "(floor)",
    "miou": "mIoU",
    "miou_floor": "(floor)",
}
SHOWN = {"failed": "FAILED ", "pending": "pending"}  # what passed is on the page


def summary(
    evaluation: Annotated[Path, typer.Option(help="Folder that evaluate wrote.")] = Path("evaluation"),
    decision: Annotated[Path, typer.Option(help="Folder that gate wrote.")] = Path("decision"),
    params: Annotated[Path, typer.Option(help="Params file.")] = Path("params.yaml"),
) -> None:
    """Print the results of the last run and where to look at them."""
    metrics, verdict = (
        read_json(path, remedy="run the pipeline (`make demo`)")
        for path in (evaluation / "metrics.json", decision / "decision.json")
    )
    console = Console(width=max(112, Console().width))  # the table needs as much, also in a log
    console.print(_results(metrics))
    console.print("Floor: what predicting “nothing is manipulated” reaches.\n")
    name = section(read_params(params), "promote", Promote, where=str(params)).model_name
    final, champion = _registered(name, verdict["model"])
    if final:
        console.print(f"Promotion: {final}", highlight=False, soft_wrap=True)
    else:
        console.print(f"Gate: {verdict['summary']}", highlight=False)
        for check in verdict["checks"]:
            if check["verdict"] in SHOWN:
                console.print(f"  {SHOWN[check['verdict']]}  {check['reason']}", highlight=False, soft_wrap=True)
    console.print(f"\nRegistered model: {champion}", highlight=False)
    console.print(f"Result page:      {(evaluation / 'report.html').resolve()}", highlight=False, soft_wrap=True)
    console.print(f"Decision page:    {(decision / 'decision.html').resolve()}", highlight=False, soft_wrap=True)
    console.print(f"MLflow UI:        make ui, then open {UI}", highlight=False, soft_wrap=True)


def _results(metrics: dict[str, Any]) -> Table:
    table = Table(title="Test split, per method and quality")
    table.add_column("slice", no_wrap=True, min_width=18)
    for title in ["frames", *FIGURES.values()]:
        table.add_column(title, justify="right")
    for name, figures in by_condition(metrics["slices"])[0].items():  # the page has those under perturbation too
        table.add_row(name, f"{figures['frames']:.0f}", *(_cell(figures[key]) for key in FIGURES))
    return table


def _cell(value: float | None) -> str:
    """A figure that could not be measured, such as the mIoU of fakes without masks, is a dash."""
    return "–" if value is None else f"{value:.3f}"


def _registered(name: str, model: str) -> tuple[str, str]:
    """The last decision on the version that holds the checkpoint `model`, "" where there is none; who is champion."""
    import mlflow

    connect()
    client = mlflow.MlflowClient()
    version, champion = registered(client, name, model), held(client, name, CHAMPION)
    final = version.tags.get("decision", "") if version else ""
    if champion is None:
        return final, f"{name} has no version with alias {CHAMPION}"
    return final, f"{name} version {champion.version}, alias {CHAMPION}"
