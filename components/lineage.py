"""Where a registered model comes from, and whether that is what lies here: `python -m components lineage <model>`."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.registry.lineage_check import DIFFERS, NOT_AT_HAND, SAME, Finding, check, count
from components.registry.lineage_record import FILES, FORMAT, PLACE, RECORD, Record, sha256_of
from components.registry.reference import find
from emd_core.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHECKPOINT = "model.safetensors"  # as in emd_core.models.checkpoint, whose import of torch takes seconds
SHOWN = 12  # differences per finding, unless all are asked for
WIDEST = len(NOT_AT_HAND)
COLOURS = {SAME: "green", DIFFERS: "red", NOT_AT_HAND: "yellow"}
EVERYTHING, SOMETHING_DIFFERS = 0, 1  # exit codes


def lineage(
    model: Annotated[str, typer.Argument(help="Such as models:/emd-detector@champion or emd-detector/3.")],
    quick: Annotated[bool, typer.Option("--quick", help="Compare data by names and sizes, without reading.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: the record and the findings.")] = False,
) -> None:
    """Print which code, data, parameters, machine and person stand behind a registered model, and compare with here.

    Here is the working directory: its code, params.yaml, dvc.lock, data/ and models/. Exit code 0: all that is at hand
    is the same; 1: something differs; 2: there is no such model, or it has no lineage.json.
    """
    version = find(model)
    record, files = load(version)
    findings = check(record, files, registered(version), contents=not quick)
    if as_json:
        found = {"name": version.name, "version": str(version.version), "aliases": list(version.aliases)}
        listed = [vars(finding) for finding in findings]
        print(json.dumps({"model": found | {"tags": version.tags}, "lineage": record, "findings": listed}, indent=1))
    else:
        console = Console(width=max(112, Console().width), highlight=False)
        show(console, version, record, files)
        show_findings(console, findings)
    raise typer.Exit(SOMETHING_DIFFERS if any(f.verdict == DIFFERS for f in findings) else EVERYTHING)


def load(version: "ModelVersion") -> tuple[Record, pd.DataFrame]:
    """A version's record, and the files that DVC recorded (out, path, size, md5)."""
    from mlflow import MlflowException

    try:
        with _artifact(version, RECORD) as path:
            record: Record = json.loads(path.read_text())
    except MlflowException:
        raise UserError(
            f"{version.name} version {version.version} has no {RECORD}, as it was registered before that was "
            "written; promote a model anew to have one."
        ) from None
    if record["format"] != FORMAT:
        raise UserError(
            f"{version.name} version {version.version} has a {RECORD} of format {record['format']}, and this version "
            f"reads format {FORMAT}; use the version of EMD that promoted it."
        )
    with _artifact(version, FILES) as path:
        return record, pd.read_parquet(path)


def registered(version: "ModelVersion") -> str:
    """SHA-256 of the checkpoint that the registry holds."""
    with _artifact(version, CHECKPOINT) as path:
        return sha256_of(path)


@contextmanager
def _artifact(version: "ModelVersion", name: str) -> Iterator[Path]:
    """A file of a version, brought here for the block."""
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with TemporaryDirectory() as work:
        uri = f"models:/{version.name}/{version.version}/{PLACE}/{name}"
        yield Path(mlflow.artifacts.download_artifacts(uri, dst_path=work))


def show(console: Console, version: "ModelVersion", record: Record, files: pd.DataFrame) -> None:
    """Print the chain, from the model in use back to the data."""
    aliases = "".join(f", alias {alias}" for alias in version.aliases)
    left = version.tags.get("rolled_back_at")
    console.print(f"[bold]{version.name} version {version.version}[/bold]{aliases}")
    model, promotion = record["model"], record["promotion"]
    replaced = promotion["replaced"]
    facts = [
        ("checkpoint", f"{model['digest']}, {model['bytes'] / 1e6:.1f} MB"),
        ("promoted", f"{promotion['at']} by {promotion['by']}"),
        ("decision", promotion["decision"]["summary"]),
        *(("", f"{check['verdict']}  {check['reason']}") for check in promotion["decision"]["checks"]),
        ("replaced", f"version {replaced['version']} ({replaced['model']})" if replaced else "nothing"),
    ]
    facts += [("rolled back", f"{left} by {version.tags['rolled_back_by']}")] if left else []
    facts += _dataset(record, files)
    facts += [(f"table {port}", table["id"]) for port, table in record["tables"].items()]
    facts += [("trained on", _machine(record)), *(("unknown", sentence) for sentence in record["missing"])]
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True)
    for about, fact in facts:
        lines.add_row(about, escape(fact))
    console.print(lines)
    console.print(_runs(record))


def _dataset(record: Record, files: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for path, md5 in (record["dvc"] or {}).get("dataset", {}).items():
        held = files[files["out"] == path]
        yield path, f"md5 {md5}, {count(held, 'file')}, {held['size'].clip(lower=0).sum() / 1e6:.1f} MB"
    if fetched := record["params"].get("fetch_data"):
        yield "data", f"revision {fetched['revision']} of {fetched['source']}"


def _machine(record: Record) -> str:
    about = (record["runs"]["train_emd"] or {}).get("environment")
    if not about:
        return "unknown"
    gpus = ", ".join(about["gpus"]) or "no GPU"
    cuda = f", CUDA {about['cuda']}" if about["gpus"] and about["cuda"] else ""
    image = f", image {about['image']}" if about["image"] else ""
    return (
        f"{about['cpu']}, {about['cores']} cores, {gpus}{cuda}; Python {about['python']}, "
        f"torch {about['packages'].get('torch', 'unknown')}{image}"
    )


def _runs(record: Record) -> Table:
    table = Table(title="Runs behind it", title_justify="left")
    for title in ("stage", "run", "started (UTC)", "by", "commit", "changes", "seed", "experiment"):
        table.add_column(title, no_wrap=title != "experiment")
    for stage, run in record["runs"].items():
        if run is None:
            continue
        tags = run["tags"]
        lines = (run.get("patch") or "").count("\n")
        changes = f"{lines} lines" if lines else ("yes" if tags.get("git.dirty") == "true" else "none")
        experiment = tags.get("DVC_EXP_NAME") or tags.get("pipeline.run", "")
        started = str(run["started"])[:16].replace("T", " ")
        row = (run["run_id"], started, run["user"], tags.get("git.commit", "")[:8], changes)
        table.add_row(stage, str(row[0])[:8], *map(escape, map(str, row[1:])), tags.get("seed", ""), escape(experiment))
    return table


def show_findings(console: Console, findings: list[Finding]) -> None:
    """Print a line per finding, and below it what differs."""
    console.print("Compared with what is here", style="italic")
    for finding in findings:
        verdict = f"[{COLOURS[finding.verdict]}]{finding.verdict:<{WIDEST}}[/]"
        remark = f" ({finding.remark})" if finding.remark else ""
        console.print(f"{verdict}  {escape(finding.what + remark)}", soft_wrap=True)
        hidden = len(finding.differences) - SHOWN
        more = [f"and {hidden} more (--json lists all)"] if hidden > 0 else []
        for line in [*finding.differences[:SHOWN], *more]:
            console.print(f"{'':<{WIDEST}}    {escape(line)}", soft_wrap=True)
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in COLOURS}
    console.print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
