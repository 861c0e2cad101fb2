"""`python -m components.cluster.trainjob`: train_emd on several nodes, as a TrainJob of Kubeflow Trainer.

The launcher is a task of the pipeline. Its inputs are files of its own pod, so it copies them to the shared volume;
the job's pods mount that volume as the launcher does (Kubeflow hands over volumes, resources, node selector,
tolerations and environment as the task's configuration, within the executor input; no memory volumes: /dev/shm is
added here). It waits, shows the log of the first node, brings the model back, and deletes the job whatever happens.
Trainer 2.2 or newer (its API of runtime patches).
"""

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from components.command_line.exits import exit_on_user_error
from components.command_line.kubeflow import write_outputs
from components.command_line.options import Run
from emd_core.errors import Preempted, UserError
from emd_core.storage.atomic import atomic_dir

API = {"group": "trainer.kubeflow.org", "version": "v1alpha1", "plural": "trainjobs"}
RUNTIME = "torch-distributed"  # the ClusterTrainingRuntime that Trainer brings along
NODE = "node"  # its replicated job, and the container in it
SHM = {"name": "dshm", "mountPath": "/dev/shm"}  # where PyTorch's workers share memory
TAIL = 20  # lines of the log that a failure repeats
POLL_S = 10.0


class JobFailed(Exception):
    """The training failed on its nodes; the message is for the user."""


def trainjob(
    section: Annotated[str, typer.Option(metavar="JSON", help="Section train_emd of the params file.")],
    faces: Annotated[Path, typer.Option(help="Crops.")],
    masks: Annotated[Path, typer.Option(help="Their masks.")],
    fer: Annotated[Path, typer.Option(help="The expression network.")],
    report: Annotated[Path, typer.Option(help="That the data passed validation.")],
    model: Annotated[Path, typer.Option(help="Folder to write.")],
    shared: Annotated[Path, typer.Option(help="Folder on the volume that launcher and nodes mount.")],
    image: Annotated[str, typer.Option(help="The project's image.")],
    nodes: Annotated[int, typer.Option(min=1, help="Pods.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes per pod, one per GPU.")],
    shm: Annotated[str, typer.Option(help="Size of /dev/shm on each node.")],
    kubeflow: Annotated[str, typer.Option(metavar="JSON", help="Kubeflow's executor input.")],
    pipeline_run: Run,
) -> None:
    """Train the two-stream network on several nodes by a TrainJob, and wait for it."""
    job = job_name(pipeline_run)
    executor_input = json.loads(kubeflow)
    folder = shared / job
    if not shared.parent.is_dir():
        raise UserError(f"{shared.parent} does not exist; mount the volume of --shared there.")
    inputs = {"faces": faces, "masks": masks, "fer": fer, "report": report}
    copies = {port: share(path, folder / port) for port, path in inputs.items()}
    stage = ["train_emd", "--section", section, "--pipeline-run", pipeline_run]
    for port, path in {**copies, "model": folder / "model"}.items():
        stage += [f"--{port}", str(path)]
    task = executor_input["inputs"]["parameterValues"]["task_config"]
    body = manifest(job, image, nodes, processes, stage, shm, task)
    with terminated(), on_cluster(job, body) as (cluster, namespace):
        wait(cluster, namespace, job)
    with atomic_dir(model) as work:
        shutil.copytree(folder / "model", work, dirs_exist_ok=True)
    write_outputs("train_emd", executor_input, {"model": model})
    shutil.rmtree(folder)


def job_name(pipeline_run: str) -> str:
    """A name that Kubernetes takes; as different as the runs' names are within 50 letters (Kubeflow's have 36)."""
    return f"emd-{pipeline_run}"[:54].rstrip("-").lower()


def share(path: Path, copy: Path) -> Path:
    """The folder as the nodes see it; a copy that an earlier attempt left whole is used again."""
    if not copy.exists():
        with atomic_dir(copy) as work:
            shutil.copytree(path, work, dirs_exist_ok=True)
    return copy


def manifest(
    job: str, image: str, nodes: int, processes: int, stage: list[str], shm: str, task: dict[str, Any]
) -> dict[str, Any]:
    """The TrainJob: torchrun on each node; the task's resources, place, volumes and environment go to its pods."""
    memory = {"name": SHM["name"], "emptyDir": {"medium": "Memory", "sizeLimit": shm}}
    # The runtime sets PET_NNODES, PET_NPROC_PER_NODE and the address of the first node, which torchrun reads.
    trainer = {
        "image": image,
        "numNodes": nodes,
        "numProcPerNode": processes,
        "command": ["torchrun", "-m", "components"],
        "args": stage,
        # The run's name comes with the command: the label that it is read from is on the launcher's pod alone.
        "env": [variable for variable in task.get("env") or [] if variable["name"] != "EMD_PIPELINE_RUN"],
        "resourcesPerNode": task.get("resources") or {},
    }
    pod = {
        "nodeSelector": task.get("nodeSelector") or {},
        "tolerations": task.get("tolerations") or [],
        "affinity": task.get("affinity") or {},
        "volumes": [*(task.get("volumes") or []), memory],
        "containers": [{"name": NODE, "volumeMounts": [*(task.get("volumeMounts") or []), SHM]}],
    }
    replicated = {"name": NODE, "template": {"spec": {"template": {"spec": {k: v for k, v in pod.items() if v}}}}}
    patch = {"manager": "emd/launcher", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}}}
    return {
        "apiVersion": f"{API['group']}/{API['version']}",
        "kind": "TrainJob",
        "metadata": {"name": job, "labels": {"app.kubernetes.io/part-of": "emd"}},
        "spec": {"runtimeRef": {"name": RUNTIME}, "trainer": trainer, "runtimePatches": [patch]},
    }


@contextmanager
def terminated() -> Iterator[None]:
    """SIGTERM raises in the block, so that the job is deleted."""

    def stop(_signal: int, _frame: Any) -> None:
        raise Preempted("the TrainJob is deleted; its checkpoint is on the volume, and a retry goes on from there.")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def on_cluster(job: str, body: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """The TrainJob, made or found, for the time of the block; (API client, namespace)."""
    from kubernetes import client, config

    config.load_config()
    cluster = client.ApiClient()
    namespace = own_namespace()
    jobs = client.CustomObjectsApi(cluster)
    try:
        jobs.create_namespaced_custom_object(**API, namespace=namespace, body=body)
        print(f"made TrainJob {job} in {namespace}", flush=True)
    except client.ApiException as error:
        if error.status != 409:
            raise refusal(error, namespace) from None
        print(f"TrainJob {job} is there already; waiting for it", flush=True)
    try:
        yield cluster, namespace
    finally:
        try:
            jobs.delete_namespaced_custom_object(**API, namespace=namespace, name=job)
        except client.ApiException as error:
            if error.status != 404:
                print(f"warning: TrainJob {job} was not deleted ({error.reason})", file=sys.stderr)


def refusal(error: Any, namespace: str) -> UserError:
    """Why the API server did not make the job, and what to do."""
    if error.status == 404:
        return UserError("the cluster knows no TrainJobs; install Kubeflow Trainer 2.2 or newer, or set nodes: 1.")
    if error.status == 403:
        return UserError(
            f"this task may not make TrainJobs in {namespace} (or its quota is used up): {_said(error)}; see the role "
            "in deploy/access.yaml."
        )
    return UserError(f"the TrainJob was refused ({error.status} {error.reason}): {_said(error)}; correct the cluster.")


def _said(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def own_namespace() -> str:
    """The pod's namespace, or outside a cluster the one of the current context."""
    from kubernetes import config

    mounted = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    if mounted.exists():
        return mounted.read_text().strip()
    return str(config.list_kube_config_contexts()[1]["context"].get("namespace", "default"))


def wait(cluster: Any, namespace: str, job: str, poll_s: float = POLL_S) -> None:
    """Until the job has ended, with the first node's log; raises JobFailed unless it is complete."""
    from kubernetes import client

    jobs, log = client.CustomObjectsApi(cluster), Log(cluster, namespace, job)
    while True:
        state = jobs.get_namespaced_custom_object(**API, namespace=namespace, name=job).get("status", {})
        log.show()
        for condition in state.get("conditions", []):
            if condition["status"] == "True" and condition["type"] == "Complete":
                return
            if condition["status"] == "True" and condition["type"] == "Failed":
                last = "\n".join(log.tail)
                raise JobFailed(f"TrainJob {job} failed: {condition.get('message', '')}\n{last}")
        time.sleep(poll_s)


class Log:
    """The log of the job's first node, line by line as it grows; a pod that is not there yet has none."""

    def __init__(self, cluster: Any, namespace: str, job: str) -> None:
        from kubernetes import client

        self._pods, self._namespace = client.CoreV1Api(cluster), namespace
        self._selector = f"jobset.sigs.k8s.io/jobset-name={job},batch.kubernetes.io/job-completion-index=0"
        self._seen = ""  # time of the last line that was shown; times in one format compare as text
        self.tail: list[str] = []

    def show(self) -> None:
        """Print what is new."""
        from kubernetes import client

        try:
            pods = self._pods.list_namespaced_pod(self._namespace, label_selector=self._selector).items
            newest = max(pods, key=lambda pod: pod.metadata.creation_timestamp, default=None)
            if newest is None:
                return
            text = self._pods.read_namespaced_pod_log(
                newest.metadata.name, self._namespace, container=NODE, timestamps=True, tail_lines=1000
            )
        except client.ApiException:  # not started, or gone: the job's own state tells how it ended
            return
        for line in text.splitlines():
            when, _, words = line.partition(" ")
            if when > self._seen:
                self._seen = when
                self.tail = [*self.tail, words][-TAIL:]
                print(words, flush=True)


def main() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(trainjob)
    try:
        app()
    except JobFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    exit_on_user_error(main)
