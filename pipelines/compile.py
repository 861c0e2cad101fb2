"""A params file -> the Kubeflow pipeline as YAML, its sections checked and made the defaults of its parameters."""

import inspect
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from components.command_line.stages import load_stage
from emd_core.config import read_params, section
from emd_core.errors import UserError
from pipelines.cluster import read_cluster
from pipelines.dag import compile_pipeline
from pipelines.server import options
from pipelines.validate import check, require_pinned


def compile(
    image: options.Image,
    params: Annotated[Path, typer.Option(help="Params file; its sections are the pipeline's defaults.")],
    set: options.Changes = None,
    cluster: options.Cluster = options.CLUSTER,
    pool: options.Pools = None,
    out: Annotated[Path, typer.Option(help="YAML file to write.")] = Path("pipeline.yaml"),
) -> None:
    """Compile the Kubeflow pipeline; every section is checked against its stage first."""
    if out.suffix != ".yaml":
        raise UserError(f"--out {out} must end in .yaml, as Kubeflow reads no other file.")
    require_pinned(image, "--image")
    sections = read_params(params, set or [])
    for name in sections:
        model = inspect.signature(load_stage(name)).parameters["cfg"].annotation
        sections[name] = section(sections, name, model, where=str(params)).model_dump(mode="json")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:  # a package that is refused leaves no file
        file = Path(folder) / out.name
        compile_pipeline(sections, read_cluster(cluster, pool or []), image, file)
        check(file)
        file.replace(out)
    print(f"compiled {params} for {image}")
