"""The stages as Kubeflow components: each is `python -m components <stage>` in the project's image.

Folders are artifacts; beside them is written what Kubeflow's UI shows: metrics, curves, pages
(components/command_line/kubeflow.py). The dataset and the expression faces lie on the volume, below the name of their
revision.

Only inputs and paths may stand in an argument: real servers (2.17) resolve neither dsl.ConcatPlaceholder nor the run's
id, which kfp.local does. tests/pipelines/test_placeholders.py holds every argument against what a server resolved.
"""

from typing import Any, List  # noqa: UP035 - kfp 2.17 reads List, not list, as a list of artifacts

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from pipelines.cluster import MOUNT

IMAGE = "emd"  # a place holder: every task is given the image that the pipeline is compiled with
CONTEXT = ["--kubeflow", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
PYTHON = ["python"]


def _run(stage: str, *arguments: Any, launcher: list[Any] = PYTHON) -> dsl.ContainerSpec:
    command = [*launcher, "-m", "components", stage]
    return dsl.ContainerSpec(image=IMAGE, command=command, args=[*arguments, *CONTEXT])


def _on_volume(revision: Any, folder: str) -> str:
    return f"{MOUNT}/{revision}/{folder}"


@dsl.container_component
def fetch_data(cfg: str, source: str, revision: str) -> dsl.ContainerSpec:
    return _run(
        "fetch_data",
        *("--section", cfg),
        *("--set", f"fetch_data.source={source}"),
        *("--set", f"fetch_data.revision='{revision}'"),
        *("--dataset", _on_volume(revision, "dataset")),
        *("--expressions", _on_volume(revision, "expressions")),
    )


@dsl.container_component
def ingest(cfg: str, revision: str, videos: Output[Dataset]) -> dsl.ContainerSpec:
    dataset = _on_volume(revision, "dataset")
    return _run("ingest", "--section", cfg, "--dataset", dataset, "--videos", videos.path)


@dsl.container_component
def extract_frames(
    cfg: str, revision: str, shard: str, videos: Input[Dataset], frames: Output[Dataset]
) -> dsl.ContainerSpec:
    return _run(
        "extract_frames",
        *("--section", cfg),
        *("--set", f"extract_frames.shard={shard}"),
        *("--dataset", _on_volume(revision, "dataset")),
        *("--videos", videos.path),
        *("--frames", frames.path),
    )


@dsl.container_component
def crop_faces(cfg: str, revision: str, frames: Input[Dataset], faces: Output[Dataset]) -> dsl.ContainerSpec:
    dataset = _on_volume(revision, "dataset")
    return _run("crop_faces", "--section", cfg, "--dataset", dataset, "--frames", frames.path, "--faces", faces.path)


@dsl.container_component
def generate_masks(cfg: str, revision: str, faces: Input[Dataset], masks: Output[Dataset]) -> dsl.ContainerSpec:
    dataset = _on_volume(revision, "dataset")
    return _run("generate_masks", "--section", cfg, "--dataset", dataset, "--faces", faces.path, "--masks", masks.path)


@dsl.container_component
def merge_shards(
    cfg: str,
    faces_shards: Input[List[Dataset]],  # noqa: UP006
    masks_shards: Input[List[Dataset]],  # noqa: UP006
    faces: Output[Dataset],
    masks: Output[Dataset],
) -> dsl.ContainerSpec:
    # The lists come with the executor input: Kubeflow has no placeholder for their paths.
    return _run("merge_shards", "--section", cfg, "--faces", faces.path, "--masks", masks.path)


@dsl.container_component
def validate_data(
    cfg: str,
    videos: Input[Dataset],
    faces: Input[Dataset],
    masks: Input[Dataset],
    report: Output[Artifact],
    page: Output[HTML],
) -> dsl.ContainerSpec:
    paths = ("--videos", videos.path, "--faces", faces.path, "--masks", masks.path, "--report", report.path)
    return _run("validate_data", "--section", cfg, *paths)


@dsl.container_component
def train_fer(
    cfg: str, revision: str, fer: Output[Model], metrics: Output[Metrics], confusion: Output[ClassificationMetrics]
) -> dsl.ContainerSpec:
    expressions = _on_volume(revision, "expressions")
    return _run("train_fer", "--section", cfg, "--expressions", expressions, "--fer", fer.path)


@dsl.container_component
def train_emd(
    cfg: str,
    processes: str,
    faces: Input[Dataset],
    masks: Input[Dataset],
    fer: Input[Model],
    report: Input[Artifact],
    model: Output[Model],
    metrics: Output[Metrics],
) -> dsl.ContainerSpec:
    paths = ("--faces", faces.path, "--masks", masks.path, "--fer", fer.path, "--report", report.path)
    launcher = ["torchrun", "--standalone", "--nproc-per-node", processes]
    return _run("train_emd", "--section", cfg, *paths, "--model", model.path, launcher=launcher)


@dsl.container_component
def train_emd_on_nodes(
    cfg: str,
    processes: str,
    nodes: str,
    image: str,
    shm: str,
    faces: Input[Dataset],
    masks: Input[Dataset],
    fer: Input[Model],
    report: Input[Artifact],
    task_config: dsl.TaskConfig,
    model: Output[Model],
    metrics: Output[Metrics],
) -> dsl.ContainerSpec:
    # The task's configuration comes with the executor input: the driver adds it after it has resolved the arguments.
    paths = ("--faces", faces.path, "--masks", masks.path, "--fer", fer.path, "--report", report.path)
    job = ("--nodes", nodes, "--processes", processes, "--image", image, "--shm", shm)
    shared = ("--shared", f"{MOUNT}/trainjobs")
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.cluster.trainjob"],
        args=["--section", cfg, *paths, "--model", model.path, *job, *shared, *CONTEXT],
    )


# The resources and the place are the nodes', not the launcher's. dsl.container_component has no argument for it.
_FIELD = dsl.TaskConfigField
train_emd_on_nodes.component_spec.task_config_passthroughs = [
    dsl.TaskConfigPassthrough(field=_FIELD.RESOURCES),
    dsl.TaskConfigPassthrough(field=_FIELD.KUBERNETES_NODE_SELECTOR),
    dsl.TaskConfigPassthrough(field=_FIELD.KUBERNETES_TOLERATIONS),
    dsl.TaskConfigPassthrough(field=_FIELD.KUBERNETES_AFFINITY),
    dsl.TaskConfigPassthrough(field=_FIELD.ENV, apply_to_task=True),
    dsl.TaskConfigPassthrough(field=_FIELD.KUBERNETES_VOLUMES, apply_to_task=True),
]


@dsl.container_component
def evaluate(
    cfg: str,
    model: Input[Model],
    faces: Input[Dataset],
    masks: Input[Dataset],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    confusion: Output[ClassificationMetrics],
    page: Output[HTML],
) -> dsl.ContainerSpec:
    paths = ("--model", model.path, "--faces", faces.path, "--masks", masks.path, "--evaluation", evaluation.path)
    return _run("evaluate", "--section", cfg, *paths)


@dsl.container_component
def gate(
    cfg: str,
    evaluation: Input[Artifact],
    decision: Output[Artifact],
    page: Output[Markdown],
    promote: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> dsl.ContainerSpec:
    return _run("gate", "--section", cfg, "--evaluation", evaluation.path, "--decision", decision.path)


@dsl.container_component
def promote(
    cfg: str,
    model: Input[Model],
    evaluation: Input[Artifact],
    decision: Input[Artifact],
    faces: Input[Dataset],
    masks: Input[Dataset],
) -> dsl.ContainerSpec:
    paths = ("--model", model.path, "--evaluation", evaluation.path, "--decision", decision.path)
    return _run("promote", "--section", cfg, *paths, "--faces", faces.path, "--masks", masks.path)


@dsl.container_component
def report(
    cfg: str,
    evaluation: Input[Artifact],
    decision: Input[Artifact],
    refusal: Output[Artifact],
    page: Output[Markdown],
) -> dsl.ContainerSpec:
    paths = ("--evaluation", evaluation.path, "--decision", decision.path, "--refusal", refusal.path)
    return _run("report", "--section", cfg, *paths)


@dsl.container_component
def settle(model: str, settled: Output[Artifact]) -> dsl.ContainerSpec:
    command = ["python", "-m", "components.judging.settle"]
    return dsl.ContainerSpec(image=IMAGE, command=command, args=["--model", model, *CONTEXT])


@dsl.container_component
def detect(
    cfg: str, videos: str, verdicts: str, shard: str, settled: Input[Artifact], judged: Output[Artifact]
) -> dsl.ContainerSpec:
    # The verdicts stay on the volume, so that a shard that was killed goes on, and nobody else brings the reports into
    # a pod; the artifact names their folder.
    paths = (f"{MOUNT}/{videos}", "--out", f"{MOUNT}/{verdicts}/{shard}")
    return _run("detect", *paths, "--section", cfg, "--model", settled.path, "--shard", shard)


@dsl.container_component
def merge_verdicts(
    verdicts: str,
    shards: Input[List[Artifact]],  # noqa: UP006
    table: Output[Dataset],
    page: Output[HTML],
) -> dsl.ContainerSpec:
    return _run("merge_verdicts", "--out", f"{MOUNT}/{verdicts}")


@dsl.container_component
def notify(status: dsl.PipelineTaskFinalStatus) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(
        image=IMAGE, command=["python", "-m", "components.cluster.notify"], args=["--status", status]
    )
