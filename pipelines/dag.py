"""The Kubeflow pipeline: who feeds whom. Every stage is `python -m components <stage>` in the project's image."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

IMAGE = "emd"  # a place holder: every task is given the image that the pipeline is compiled with


def _run(stage: str, *arguments: Any) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-m", "components", stage], args=list(arguments))


@dsl.container_component
def ingest(cfg: str, dataset: Input[Dataset], videos: Output[Dataset]) -> dsl.ContainerSpec:
    return _run("ingest", "--section", cfg, "--dataset", dataset.path, "--videos", videos.path)


@dsl.container_component
def extract_frames(
    cfg: str, dataset: Input[Dataset], videos: Input[Dataset], frames: Output[Dataset]
) -> dsl.ContainerSpec:
    paths = ("--dataset", dataset.path, "--videos", videos.path, "--frames", frames.path)
    return _run("extract_frames", "--section", cfg, *paths)


@dsl.container_component
def crop_faces(cfg: str, frames: Input[Dataset], faces: Output[Dataset]) -> dsl.ContainerSpec:
    return _run("crop_faces", "--section", cfg, "--frames", frames.path, "--faces", faces.path)


@dsl.container_component
def generate_masks(
    cfg: str, dataset: Input[Dataset], faces: Input[Dataset], masks: Output[Dataset]
) -> dsl.ContainerSpec:
    paths = ("--dataset", dataset.path, "--faces", faces.path, "--masks", masks.path)
    return _run("generate_masks", "--section", cfg, *paths)


@dsl.container_component
def validate_data(
    cfg: str, videos: Input[Dataset], faces: Input[Dataset], masks: Input[Dataset], report: Output[HTML]
) -> dsl.ContainerSpec:
    paths = ("--videos", videos.path, "--faces", faces.path, "--masks", masks.path, "--report", report.path)
    return _run("validate_data", "--section", cfg, *paths)


@dsl.container_component
def train_fer(cfg: str, expressions: Input[Dataset], fer: Output[Model]) -> dsl.ContainerSpec:
    return _run("train_fer", "--section", cfg, "--expressions", expressions.path, "--fer", fer.path)


@dsl.container_component
def train_emd(
    cfg: str,
    faces: Input[Dataset],
    masks: Input[Dataset],
    fer: Input[Model],
    report: Input[HTML],
    model: Output[Model],
) -> dsl.ContainerSpec:
    paths = ("--faces", faces.path, "--masks", masks.path, "--fer", fer.path, "--report", report.path)
    return _run("train_emd", "--section", cfg, *paths, "--model", model.path)


@dsl.container_component
def evaluate(
    cfg: str, model: Input[Model], faces: Input[Dataset], masks: Input[Dataset], evaluation: Output[Metrics]
) -> dsl.ContainerSpec:
    paths = ("--model", model.path, "--faces", faces.path, "--masks", masks.path, "--evaluation", evaluation.path)
    return _run("evaluate", "--section", cfg, *paths)


@dsl.container_component
def gate(cfg: str, evaluation: Input[Metrics], decision: Output[Metrics]) -> dsl.ContainerSpec:
    return _run("gate", "--section", cfg, "--evaluation", evaluation.path, "--decision", decision.path)


@dsl.container_component
def promote(cfg: str, model: Input[Model], evaluation: Input[Metrics], decision: Input[Metrics]) -> dsl.ContainerSpec:
    paths = ("--model", model.path, "--evaluation", evaluation.path, "--decision", decision.path)
    return _run("promote", "--section", cfg, *paths)


def compile_pipeline(params: Mapping[str, Mapping[str, Any]], image: str, out: Path) -> None:
    """Write the pipeline as YAML; each stage's section of `params` is the default of a pipeline parameter, as JSON.

    As JSON text, since Kubeflow's own structures know no null and make every number a float.
    """
    defaults = {stage: json.dumps(values) for stage, values in params.items()}

    def on_cpu(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return task.set_container_image(image)

    def on_gpu(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return on_cpu(task).set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)

    @dsl.pipeline(name="emd", description="Train, judge and promote a detector of facial expression manipulation.")
    def emd(
        dataset_uri: str,
        expressions_uri: str,
        ingest_cfg: str = defaults["ingest"],
        extract_frames_cfg: str = defaults["extract_frames"],
        crop_faces_cfg: str = defaults["crop_faces"],
        generate_masks_cfg: str = defaults["generate_masks"],
        validate_data_cfg: str = defaults["validate_data"],
        train_fer_cfg: str = defaults["train_fer"],
        train_emd_cfg: str = defaults["train_emd"],
        evaluate_cfg: str = defaults["evaluate"],
        gate_cfg: str = defaults["gate"],
        promote_cfg: str = defaults["promote"],
    ) -> None:
        raw = dsl.importer(artifact_uri=dataset_uri, artifact_class=Dataset).output
        expressions = dsl.importer(artifact_uri=expressions_uri, artifact_class=Dataset).output
        videos = on_cpu(ingest(cfg=ingest_cfg, dataset=raw)).output
        frames = on_cpu(extract_frames(cfg=extract_frames_cfg, dataset=raw, videos=videos)).output
        faces = on_gpu(crop_faces(cfg=crop_faces_cfg, frames=frames)).output
        masks = on_cpu(generate_masks(cfg=generate_masks_cfg, dataset=raw, faces=faces)).output
        report = on_cpu(validate_data(cfg=validate_data_cfg, videos=videos, faces=faces, masks=masks)).output
        fer = on_gpu(train_fer(cfg=train_fer_cfg, expressions=expressions)).output
        model = on_gpu(train_emd(cfg=train_emd_cfg, faces=faces, masks=masks, fer=fer, report=report)).output
        evaluation = on_gpu(evaluate(cfg=evaluate_cfg, model=model, faces=faces, masks=masks)).output
        decision = on_cpu(gate(cfg=gate_cfg, evaluation=evaluation)).output
        promotion = on_cpu(promote(cfg=promote_cfg, model=model, evaluation=evaluation, decision=decision))
        promotion.set_caching_options(False)  # the registry may have changed since

    compiler.Compiler().compile(emd, str(out))
