"""Options that commands share, and what comes of them: a checked package, a version's name."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from emd_core.errors import UserError
from pipelines.validate import check

# Of the package: what is compiled, or the file that was compiled before.
Package = Annotated[Path | None, typer.Option(help="Compiled package; else it is compiled now.")]
Image = Annotated[str, typer.Option(help="The project's image, by digest or by git revision.")]
ParamsFile = Annotated[Path | None, typer.Option(help="Params file; its sections are the pipeline's defaults.")]
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


@contextlib.contextmanager
def package_file(
    package: Path | None,
    image: str,
    params: Path | None,
    set: list[str] | None,
    cluster: Path,
    pool: list[str] | None,
    cache: bool,
) -> Iterator[tuple[Path, Any]]:
    """The package to upload and its PipelineSpec message, checked: the file given, or one that is compiled now."""
    with tempfile.TemporaryDirectory() as folder:
        if package is None:
            if not image or params is None:
                raise UserError("there is nothing to upload; give --image and --params, or --package FILE.")
            from pipelines.compile import compile  # imports every stage, which takes seconds

            package = Path(folder) / "pipeline.yaml"
            compile(image=image, params=params, set=set, cluster=cluster, pool=pool, out=package)
        elif image or params or set or pool:
            raise UserError("--package is compiled already; leave out --image, --params, --set and --pool.")
        spec = check(package)
        if not cache:
            package = _without_cache(package, Path(folder) / "uncached.yaml")
        yield package, spec


def _without_cache(package: Path, out: Path) -> Path:
    """A copy in which no task is cached: the API has no such switch for the runs of an uploaded version."""
    documents = list(yaml.safe_load_all(package.read_text()))
    for document in documents:
        for component in [document.get("root", {}), *document.get("components", {}).values()]:
            for task in component.get("dag", {}).get("tasks", {}).values():
                task["cachingOptions"] = {}
    out.write_text(yaml.safe_dump_all(documents))
    return out


def default_version_name() -> str:
    """Commit and UTC time, such as 14d27ac-20251124-0915: sorts, and leads back to the code."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    commit = git.stdout.strip() or os.environ.get("EMD_GIT_COMMIT", "")[:7]
    return "-".join(filter(None, [commit, datetime.now(UTC).strftime("%Y%m%d-%H%M%S")]))
