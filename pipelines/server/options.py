"""Options that commands share, and a version's name."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

# Of the package: what is compiled, or the file that was compiled before.
Package = Annotated[Path | None, typer.Option(help="Compiled package; else it is compiled now.")]
Image = Annotated[str, typer.Option(help="The project's image, by digest or by git revision.")]
ParamsFile = Annotated[Path | None, typer.Option(help="Params file; its sections are the pipeline's defaults.")]
Dag = Annotated[Literal["emd", "detect"], typer.Option(help="Train and promote a model, or judge a folder of videos.")]
Changes = Annotated[list[str] | None, typer.Option(metavar="SECTION.KEY=VALUE", help="A value to change; repeatable.")]
Cluster = Annotated[Path, typer.Option(help="Cluster file: node pools, volume, secrets.")]
Pools = Annotated[list[str] | None, typer.Option("--pool", metavar="ROLE=BLOCK", help="Another block for cpu or gpu.")]
CLUSTER = Path("pipelines/cluster.yaml")

# Of the server.
Endpoint = Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of Kubeflow Pipelines.")]
Namespace = Annotated[str, typer.Option(help="Profile namespace (multi-user); default: kfp's context.json.")]

# Of a run.
Parameters = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A pipeline parameter; repeatable.")]
VersionName = Annotated[str, typer.Option(help="Name of the uploaded version; default: git commit and time.")]
Experiment = Annotated[str, typer.Option(help="Experiment that collects the runs.")]
ServiceAccount = Annotated[str, typer.Option(help="Kubernetes service account of the run's pods.")]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="--no-cache uploads a version that caches no task.")]


def default_version_name() -> str:
    """Commit and UTC time, such as 14d27ac-20251124-0915: sorts, and leads back to the code."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    commit = git.stdout.strip() or os.environ.get("EMD_GIT_COMMIT", "")[:7]
    return "-".join(filter(None, [commit, datetime.now(UTC).strftime("%Y%m%d-%H%M%S")]))
