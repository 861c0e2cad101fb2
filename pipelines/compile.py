"""A params file -> the Kubeflow pipeline as YAML, its sections checked and made the defaults of its parameters."""

import importlib
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from components.command_line.stages import section_type
from emd_core.config import read_params, section
from emd_core.errors import UserError
from pipelines.cluster import read_cluster
from pipelines.server import options
from pipelines.validate import check, require_pinned

DAGS = {"emd": "dag", "detect": "detect_dag"}  # a file each


def compile(
    image: options.Image,
    params: Annotated[Path, typer.Option(help="Params file; its sections are the pipeline's defaults.")],
    dag: options.Dag = "emd",
    set: options.Changes = None,
    cluster: options.Cluster = options.CLUSTER,
    pool: options.Pools = None,
    out: Annotated[Path, typer.Option(help="YAML file to write.")] = Path("pipeline.yaml"),
) -> None:
    """Compile the Kubeflow pipeline; its sections are checked against its stages first."""
    if out.suffix != ".yaml":
        raise UserError(f"--out {out} must end in .yaml, as Kubeflow reads no other file.")
    require_pinned(image, "--image")
    given = read_params(params, set or [])
    pipeline = importlib.import_module(f"pipelines.{DAGS[dag]}")
    sections = {
        name: section(given, name, section_type(name), where=str(params)).model_dump(mode="json")
        for name in pipeline.SECTIONS
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:  # a package that is refused leaves no file
        file = Path(folder) / out.name
        pipeline.compile_pipeline(sections, read_cluster(cluster, pool or []), image, file)
        check(file)
        file.replace(out)
    print(f"compiled {params} for {image}")
