"""Where the pipeline runs: the file cluster.yaml, and how a task is placed accordingly."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from kfp import dsl, kubernetes
from pydantic import Field, model_validator

from components import STAGES
from emd_core.config import Config, section
from emd_core.errors import UserError
from emd_core.reading import TEXT, read_text, reading

MOUNT = "/data"  # where the volume appears in a container
SHM = "/dev/shm"  # PyTorch's workers share memory there; a container's own 64 MiB end in a bus error
HOUR = 3600  # s
TASKS = (*STAGES, "settle", "detect", "merge_verdicts")
RESOURCES = ("cpu_request", "cpu_limit", "memory_request", "memory_limit")


# As Kubernetes writes them.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|[KMGTPE]i|[MGTPE])?$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Pool(Config):
    """A kind of node and what a task takes of it."""

    node_selector: dict[str, str]
    tolerations: list[dict[str, str]]
    cpu_request: Quantity
    cpu_limit: Quantity
    memory_request: Quantity
    memory_limit: Quantity
    retries: int = Field(ge=0, description="Attempts after the first.")
    accelerator: str = Field("", description="Resource name, such as nvidia.com/gpu.")
    count: int = Field(0, ge=0, description="Accelerators per pod.")
    shm: Quantity | Literal[""] = Field("", description="Size of /dev/shm, held in memory.")

    @model_validator(mode="after")
    def _accelerator_and_count(self) -> "Pool":
        if bool(self.accelerator) != bool(self.count):
            raise ValueError("accelerator and count go together")
        return self


class Secret(Config):
    name: Name
    keys: list[Variable] = Field(min_length=1)


class Secrets(Config):
    mlflow: Secret
    data: Secret
    webhook: Secret


class Cluster(Config):
    """The file as a whole."""

    pools: dict[str, Pool]
    on_gpu: list[str]
    shards: int = Field(ge=1)
    parallel_shards: int = Field(ge=1)
    nodes: int = Field(ge=1)
    claim: Name
    secrets: Secrets
    retry_wait_s: int = Field(ge=0, description="Between two attempts of a task.")
    timeout_h: dict[str, float]
    deadline_h: float = Field(gt=0)
    keep_finished_h: float = Field(gt=0)

    @model_validator(mode="after")
    def _stages(self) -> "Cluster":
        if unknown := {*self.on_gpu, *self.timeout_h} - {*TASKS, "other"}:
            raise ValueError(f"on_gpu and timeout_h name no stage by '{min(unknown)}'")
        if "other" not in self.timeout_h:
            raise ValueError("timeout_h needs 'other', for the stages that it does not name")
        return self


def read_cluster(path: Path, pools: Sequence[str] = ()) -> Cluster:
    """The file, with each "role=block" of `pools` applied: the role's block is replaced by another one."""
    text = read_text(path, TEXT, "pass --cluster with the path of a cluster file")
    with reading(path, "valid YAML", "mend the file"):
        values = yaml.safe_load(text)
    cluster = section({"cluster": values}, "cluster", Cluster, where=str(path))
    blocks = dict(cluster.pools)
    for change in pools:
        role, _, block = change.partition("=")
        if role not in ("cpu", "gpu") or block not in blocks:
            raise UserError(f"--pool {change} must be cpu=BLOCK or gpu=BLOCK, BLOCK one of {', '.join(cluster.pools)}.")
        blocks[role] = cluster.pools[block]
    if not {"cpu", "gpu"} <= set(blocks):
        raise UserError(f"{path}: pools must have the blocks cpu and gpu; add what is missing.")
    return cluster.model_copy(update={"pools": blocks})


def pool_parameters(cluster: Cluster) -> dict[str, Any]:
    """The defaults of the pipeline's parameters that say where its tasks run."""
    fields = ("node_selector", "tolerations", *RESOURCES)
    values = {f"{role}_{field}": getattr(cluster.pools[role], field) for role in ("cpu", "gpu") for field in fields}
    gpu = cluster.pools["gpu"]
    return values | {"gpu_accelerator": gpu.accelerator, "gpu_count": str(gpu.count), "claim": cluster.claim}


def place(task: dsl.PipelineTask, stage: str, cluster: Cluster, chosen: Mapping[str, Any]) -> dsl.PipelineTask:
    """Put a task on its pool, with its resources, retries and time limit. `chosen`: the pipeline's parameters."""
    role = "gpu" if stage in cluster.on_gpu else "cpu"
    pool = cluster.pools[role]
    kubernetes.add_node_selector_json(task, chosen[f"{role}_node_selector"])
    kubernetes.add_toleration_json(task, chosen[f"{role}_tolerations"])
    resources = [chosen[f"{role}_{field}"] for field in RESOURCES]
    task.set_cpu_request(resources[0]).set_cpu_limit(resources[1])
    task.set_memory_request(resources[2]).set_memory_limit(resources[3])
    if role == "gpu" and pool.accelerator:
        resources += [chosen["gpu_accelerator"], chosen["gpu_count"]]
        task.set_accelerator_type(resources[4]).set_accelerator_limit(resources[5])
    # kfp 2.17 does not hand parameters that are resources down into loops and exit handlers unless told so.
    task.register_pipeline_channels(resources)
    if pool.shm:
        kubernetes.empty_dir_mount(task, volume_name="dshm", mount_path=SHM, medium="Memory", size_limit=pool.shm)
    if pool.retries:
        # A factor above 1 would make the waits grow without bound. The last value is no wait: it is the time since the
        # first attempt after which none is made any more, and the deadline of the pods that are.
        task.set_retry(pool.retries, f"{cluster.retry_wait_s}s", 1, f"{round(cluster.deadline_h * HOUR)}s")
    kubernetes.set_timeout(task, round(cluster.timeout_h.get(stage, cluster.timeout_h["other"]) * HOUR))
    return task


def give_secret(task: dsl.PipelineTask, secret: Secret) -> None:
    """The secret's keys as environment variables, if it exists."""
    kubernetes.use_secret_as_env(task, secret.name, {key: key for key in secret.keys}, optional=True)


def mount_volume(task: dsl.PipelineTask, claim: Any) -> None:
    """The volume of data and checkpoints."""
    kubernetes.mount_pvc(task, claim, MOUNT)
    task.set_env_variable("EMD_CHECKPOINTS", f"{MOUNT}/checkpoints")
