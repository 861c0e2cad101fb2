"""A params file -> the Kubeflow pipeline as YAML, its sections checked and made the defaults of its parameters."""

import inspect
from pathlib import Path
from typing import Annotated

import typer

from components.__main__ import load_stage
from emd_core.config import read_params, section
from pipelines.cluster import read_cluster
from pipelines.dag import compile_pipeline


def compile(
    image: Annotated[str, typer.Option(help="The project's image, by digest or by git revision.")],
    params: Annotated[Path, typer.Option(help="Params file; its sections become the pipeline's defaults.")],
    set: Annotated[list[str] | None, typer.Option(metavar="SECTION.KEY=VALUE", help="A value to change.")] = None,
    cluster: Annotated[Path, typer.Option(help="Cluster file: pools, volume, secrets.")] = Path(
        "pipelines/cluster.yaml"
    ),
    pool: Annotated[list[str] | None, typer.Option(metavar="ROLE=BLOCK", help="Another block for a pool.")] = None,
    out: Annotated[Path, typer.Option(help="YAML file to write.")] = Path("pipeline.yaml"),
) -> None:
    """Compile the Kubeflow pipeline; every section is checked against its stage first."""
    sections = read_params(params, set or [])
    for name in sections:
        model = inspect.signature(load_stage(name)).parameters["cfg"].annotation
        sections[name] = section(sections, name, model, where=str(params)).model_dump(mode="json")
    out.parent.mkdir(parents=True, exist_ok=True)
    compile_pipeline(sections, read_cluster(cluster, pool or []), image, out)
    print(f"compiled {params} to {out}")
