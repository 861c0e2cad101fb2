"""The package that is uploaded or run: the file given, or one that is compiled now; checked."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from emd_core.errors import UserError
from pipelines.server import options
from pipelines.validate import check


@contextlib.contextmanager
def package_file(
    package: Path | None,
    image: str,
    params: Path | None,
    dag: options.Dag,
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
            compile(image=image, params=params, dag=dag, set=set, cluster=cluster, pool=pool, out=package)
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
