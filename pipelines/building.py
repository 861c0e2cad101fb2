"""What all our pipelines are made of: settings, an exit handler, and tasks with their place, volume and secrets."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from pipelines import tasks
from pipelines.cluster import HOUR, Cluster, give_secret, mount_volume, place, pool_parameters

ON_VOLUME = {"fetch_data", "ingest", "extract_frames", "crop_faces", "generate_masks", "train_fer", "train_emd"}
ON_VOLUME |= {"settle", "detect", "merge_verdicts"}
TRACKED = {"fetch_data", "validate_data", "train_fer", "train_emd", "evaluate", "gate", "promote", "report"}
TRACKED |= {"settle", "detect"}
# What these do depends on more than their inputs: the volume, the registry.
NOT_CACHED = {"fetch_data", "promote", "report", "notify", "settle", "detect", "merge_verdicts"}
RUN_ID = "metadata.labels['pipeline/runid']"  # Kubeflow labels each pod with its run


@dataclass(frozen=True)
class Run:
    """A run of a pipeline, as far as it is known when the pipeline is compiled."""

    image: str
    cluster: Cluster
    given: Mapping[str, Any]  # the pipeline's parameters, by name

    def task(self, component: Any, **inputs: Any) -> dsl.PipelineTask:
        """One stage or command as a task: its image, section, place, volume and secrets."""
        stage = component.name.replace("-", "_").removesuffix("_on_nodes")
        if f"{stage}_cfg" in self.given:
            inputs["cfg"] = self.given[f"{stage}_cfg"]
        made = place(component(**inputs).set_container_image(self.image), stage, self.cluster, self.given)
        made.set_caching_options(stage not in NOT_CACHED)
        # Not by an argument: no placeholder for it is resolved, and an input would be part of the cache's key.
        kubernetes.use_field_path_as_env(made, "EMD_PIPELINE_RUN", RUN_ID)
        if stage in ON_VOLUME:
            mount_volume(made, self.given["claim"])
        if stage in TRACKED:
            give_secret(made, self.cluster.secrets.mlflow)
            made.set_env_variable("EMD_IMAGE", self.image)  # the runs say what they ran in
        return made


def all_shards(cluster: Cluster) -> list[str]:
    return [f"{k}/{cluster.shards}" for k in range(1, cluster.shards + 1)]


def write_pipeline(
    name: str,
    description: str,
    parameters: Mapping[str, Any],
    add_tasks: Callable[[Run], None],
    *,
    cluster: Cluster,
    image: str,
    out: Path,
) -> None:
    """Write a pipeline as YAML, at whose end `notify` tells how it went.

    Args:
        parameters: their defaults, beside those of the pools; a type instead of a default where a run must name one.
        add_tasks: called while the pipeline is compiled.
    """
    defaults = {**parameters, **pool_parameters(cluster)}

    def tasks_of(*values: Any) -> None:
        run = Run(image, cluster, dict(zip(defaults, values, strict=True)))
        end = run.task(tasks.notify)
        give_secret(end, cluster.secrets.webhook)
        with dsl.ExitHandler(end, name="run"):
            add_tasks(run)

    tasks_of.__signature__ = inspect.Signature([_parameter(*item) for item in defaults.items()])  # type: ignore[attr-defined]
    keep = round(cluster.keep_finished_h * HOUR)
    config = dsl.PipelineConfig(
        ttl_seconds_after_finished=keep,
        ttl_seconds_after_success=keep,  # Argo prefers these two; KFP 2.17's own Argo sets them to an hour by default
        ttl_seconds_after_failure=keep,
        active_deadline_seconds=round(cluster.deadline_h * HOUR),
    )
    made = dsl.pipeline(tasks_of, name=name, description=description, pipeline_config=config)
    compiler.Compiler().compile(made, str(out))


def _parameter(name: str, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if isinstance(default, type):
        return inspect.Parameter(name, kind, annotation=default)
    return inspect.Parameter(name, kind, annotation=type(default), default=default)
