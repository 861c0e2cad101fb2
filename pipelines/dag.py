"""The Kubeflow pipeline `emd`: who feeds whom."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import dsl

from components import STAGES
from pipelines import tasks
from pipelines.building import Run, all_shards, write_pipeline
from pipelines.cluster import Cluster, give_secret

SECTIONS = tuple(stage for stage in STAGES if stage != "make_sample")  # a cluster trains on real data


def compile_pipeline(params: Mapping[str, Mapping[str, Any]], cluster: Cluster, image: str, out: Path) -> None:
    """Write the pipeline as YAML; each stage's section of `params` is the default of a pipeline parameter, as JSON.

    As JSON text, since Kubeflow's own structures know no null and make every number a float.
    """
    data = params["fetch_data"]
    parameters = {
        "data_source": data["source"],
        "data_revision": data["revision"],
        "shards": all_shards(cluster),
        **{f"{stage}_cfg": json.dumps(params[stage]) for stage in SECTIONS},
    }
    description = "Train, judge and promote a detector of facial expression manipulation."
    write_pipeline("emd", description, parameters, add_tasks, cluster=cluster, image=image, out=out)


def add_tasks(run: Run) -> None:
    cluster, task = run.cluster, run.task
    revision = run.given["data_revision"]
    fetched = task(tasks.fetch_data, source=run.given["data_source"], revision=revision)
    give_secret(fetched, cluster.secrets.data)
    videos = task(tasks.ingest, revision=revision).after(fetched).outputs["videos"]
    with dsl.ParallelFor(run.given["shards"], name="shards", parallelism=cluster.parallel_shards) as shard:
        extracted = task(tasks.extract_frames, revision=revision, shard=shard, videos=videos)
        cropped = task(tasks.crop_faces, revision=revision, frames=extracted.outputs["frames"])
        masked = task(tasks.generate_masks, revision=revision, faces=cropped.outputs["faces"])
    merged = task(
        tasks.merge_shards,
        faces_shards=dsl.Collected(cropped.outputs["faces"]),
        masks_shards=dsl.Collected(masked.outputs["masks"]),
    )
    faces, masks = merged.outputs["faces"], merged.outputs["masks"]
    validated = task(tasks.validate_data, videos=videos, faces=faces, masks=masks)
    fer = task(tasks.train_fer, revision=revision).after(fetched).outputs["fer"]
    inputs = {"faces": faces, "masks": masks, "fer": fer, "report": validated.outputs["report"]}
    inputs["processes"] = run.given["gpu_count"] if cluster.pools["gpu"].accelerator else "1"
    if cluster.nodes == 1:
        trained = task(tasks.train_emd, **inputs)
    else:
        inputs["shm"] = cluster.pools["gpu"].shm or "64Mi"  # else what any container has
        trained = task(tasks.train_emd_on_nodes, nodes=str(cluster.nodes), image=run.image, **inputs)
    model = trained.outputs["model"]
    evaluation = task(tasks.evaluate, model=model, faces=faces, masks=masks).outputs["evaluation"]
    decided = task(tasks.gate, evaluation=evaluation)
    decision = decided.outputs["decision"]
    with dsl.If(decided.outputs["promote"] == "true", name="passed"):
        task(tasks.promote, model=model, evaluation=evaluation, decision=decision, faces=faces, masks=masks)
    with dsl.Else(name="refused"):
        task(tasks.report, evaluation=evaluation, decision=decision)
