"""The Kubeflow pipeline `emd-detect`: verdicts on a folder of videos, however many."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import dsl

from components.detect import CHAMPION
from pipelines import tasks
from pipelines.building import Run, all_shards, write_pipeline
from pipelines.cluster import Cluster

SECTIONS = ("detect",)


def compile_pipeline(params: Mapping[str, Mapping[str, Any]], cluster: Cluster, image: str, out: Path) -> None:
    """Write the pipeline as YAML; section `detect` is the default of a parameter, as JSON text."""
    parameters = {
        "videos": str,
        "verdicts": "verdicts",
        "model": CHAMPION,
        "shards": all_shards(cluster),
        "detect_cfg": json.dumps(params["detect"]),
    }
    description = "Judge videos and pictures: is a face in them manipulated, when, and where?"
    write_pipeline("emd-detect", description, parameters, add_tasks, cluster=cluster, image=image, out=out)


def add_tasks(run: Run) -> None:
    given = run.given
    # An artifact, as kfp.local 2.17 takes a task's output parameter for the item of a loop that is given it.
    settled = run.task(tasks.settle, model=given["model"]).outputs["settled"]
    with dsl.ParallelFor(given["shards"], name="shards", parallelism=run.cluster.parallel_shards) as shard:
        inputs = {"videos": given["videos"], "verdicts": given["verdicts"], "settled": settled, "shard": shard}
        judged = run.task(tasks.detect, **inputs).outputs["judged"]
    run.task(tasks.merge_verdicts, verdicts=given["verdicts"], shards=dsl.Collected(judged))
