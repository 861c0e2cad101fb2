"""The Kubeflow pipeline: who feeds whom, on which nodes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from pipelines import tasks
from pipelines.cluster import HOUR, Cluster, give_secret, mount_volume, place, pool_parameters

ON_VOLUME = {"fetch_data", "ingest", "extract_frames", "crop_faces", "generate_masks", "train_fer", "train_emd"}
TRACKED = {"fetch_data", "validate_data", "train_fer", "train_emd", "evaluate", "gate", "promote", "report"}
# What these do depends on more than their inputs: the volume, the registry.
NOT_CACHED = {"fetch_data", "promote", "report", "notify"}
RUN_ID = "metadata.labels['pipeline/runid']"  # Kubeflow labels each pod with its run


def compile_pipeline(params: Mapping[str, Mapping[str, Any]], cluster: Cluster, image: str, out: Path) -> None:
    """Write the pipeline as YAML; each stage's section of `params` is the default of a pipeline parameter, as JSON.

    As JSON text, since Kubeflow's own structures know no null and make every number a float.
    """
    defaults = {stage: json.dumps(values) for stage, values in params.items()}
    pools = pool_parameters(cluster)
    shards_default = [f"{k}/{cluster.shards}" for k in range(1, cluster.shards + 1)]
    keep = round(cluster.keep_finished_h * HOUR)
    config = dsl.PipelineConfig(
        ttl_seconds_after_finished=keep,
        ttl_seconds_after_success=keep,  # Argo prefers these two; KFP 2.17's own Argo sets them to an hour by default
        ttl_seconds_after_failure=keep,
        active_deadline_seconds=round(cluster.deadline_h * HOUR),
    )

    @dsl.pipeline(
        name="emd",
        description="Train, judge and promote a detector of facial expression manipulation.",
        pipeline_config=config,
    )
    def emd(
        data_source: str = params["fetch_data"]["source"],
        data_revision: str = params["fetch_data"]["revision"],
        shards: list = shards_default,
        fetch_data_cfg: str = defaults["fetch_data"],
        ingest_cfg: str = defaults["ingest"],
        extract_frames_cfg: str = defaults["extract_frames"],
        crop_faces_cfg: str = defaults["crop_faces"],
        generate_masks_cfg: str = defaults["generate_masks"],
        merge_shards_cfg: str = defaults["merge_shards"],
        validate_data_cfg: str = defaults["validate_data"],
        train_fer_cfg: str = defaults["train_fer"],
        train_emd_cfg: str = defaults["train_emd"],
        evaluate_cfg: str = defaults["evaluate"],
        gate_cfg: str = defaults["gate"],
        promote_cfg: str = defaults["promote"],
        report_cfg: str = defaults["report"],
        claim: str = pools["claim"],
        cpu_node_selector: dict = pools["cpu_node_selector"],
        cpu_tolerations: list = pools["cpu_tolerations"],
        cpu_cpu_request: str = pools["cpu_cpu_request"],
        cpu_cpu_limit: str = pools["cpu_cpu_limit"],
        cpu_memory_request: str = pools["cpu_memory_request"],
        cpu_memory_limit: str = pools["cpu_memory_limit"],
        gpu_node_selector: dict = pools["gpu_node_selector"],
        gpu_tolerations: list = pools["gpu_tolerations"],
        gpu_cpu_request: str = pools["gpu_cpu_request"],
        gpu_cpu_limit: str = pools["gpu_cpu_limit"],
        gpu_memory_request: str = pools["gpu_memory_request"],
        gpu_memory_limit: str = pools["gpu_memory_limit"],
        gpu_accelerator: str = pools["gpu_accelerator"],
        gpu_count: str = pools["gpu_count"],
    ) -> None:
        given = locals()

        def task(component: Any, **inputs: Any) -> dsl.PipelineTask:
            """One stage as a task: its image, section, place, volume and secrets."""
            stage = component.name.replace("-", "_").removesuffix("_on_nodes")
            if f"{stage}_cfg" in given:
                inputs["cfg"] = given[f"{stage}_cfg"]
            made = place(component(**inputs).set_container_image(image), stage, cluster, given)
            made.set_caching_options(stage not in NOT_CACHED)
            # Not by an argument: no placeholder for it is resolved, and an input would be part of the cache's key.
            kubernetes.use_field_path_as_env(made, "EMD_PIPELINE_RUN", RUN_ID)
            if stage in ON_VOLUME:
                mount_volume(made, claim)
            if stage in TRACKED:
                give_secret(made, cluster.secrets.mlflow)
                made.set_env_variable("EMD_IMAGE", image)  # the runs say what they ran in
            return made

        end = task(tasks.notify)
        give_secret(end, cluster.secrets.webhook)
        with dsl.ExitHandler(end, name="run"):
            fetched = task(tasks.fetch_data, source=data_source, revision=data_revision)
            give_secret(fetched, cluster.secrets.data)
            videos = task(tasks.ingest, revision=data_revision).after(fetched).outputs["videos"]
            with dsl.ParallelFor(shards, name="shards", parallelism=cluster.parallel_shards) as shard:
                extracted = task(tasks.extract_frames, revision=data_revision, shard=shard, videos=videos)
                cropped = task(tasks.crop_faces, revision=data_revision, frames=extracted.outputs["frames"])
                masked = task(tasks.generate_masks, revision=data_revision, faces=cropped.outputs["faces"])
            merged = task(
                tasks.merge_shards,
                faces_shards=dsl.Collected(cropped.outputs["faces"]),
                masks_shards=dsl.Collected(masked.outputs["masks"]),
            )
            faces, masks = merged.outputs["faces"], merged.outputs["masks"]
            validated = task(tasks.validate_data, videos=videos, faces=faces, masks=masks)
            fer = task(tasks.train_fer, revision=data_revision).after(fetched).outputs["fer"]
            inputs = {"faces": faces, "masks": masks, "fer": fer, "report": validated.outputs["report"]}
            inputs["processes"] = gpu_count if cluster.pools["gpu"].accelerator else "1"
            if cluster.nodes == 1:
                trained = task(tasks.train_emd, **inputs)
            else:
                inputs["shm"] = cluster.pools["gpu"].shm or "64Mi"  # else what any container has
                trained = task(tasks.train_emd_on_nodes, nodes=str(cluster.nodes), image=image, **inputs)
            model = trained.outputs["model"]
            evaluation = task(tasks.evaluate, model=model, faces=faces, masks=masks).outputs["evaluation"]
            decided = task(tasks.gate, evaluation=evaluation)
            decision = decided.outputs["decision"]
            with dsl.If(decided.outputs["promote"] == "true", name="passed"):
                task(tasks.promote, model=model, evaluation=evaluation, decision=decision, faces=faces, masks=masks)
            with dsl.Else(name="refused"):
                task(tasks.report, evaluation=evaluation, decision=decision)

    compiler.Compiler().compile(emd, str(out))
