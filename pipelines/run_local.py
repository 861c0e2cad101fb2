"""Run the whole Kubeflow pipeline in containers on this machine's Docker engine, without a cluster.

Kubeflow's own local runner executes the compiled pipeline: the loop over shards, retries, the gate's branches and the
exit handler included. Node pools and Kubernetes secrets mean nothing here; MLFLOW_TRACKING_URI, EMD_WEBHOOK,
GIT_TOKEN and AWS_* are passed on from the environment.
"""

import os
import uuid
import warnings
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from emd_core.errors import UserError
from pipelines.cluster import MOUNT
from pipelines.package import package_file
from pipelines.parameters import typed_parameters
from pipelines.server import options
from pipelines.validate import image_of

CLUSTER = Path("pipelines/cluster-local.yaml")
PASSED_ON = ("MLFLOW_TRACKING_", "EMD_WEBHOOK", "GIT_TOKEN", "AWS_")


def run_local(
    data: Annotated[Path, typer.Option(help="Folder that stands for the volume: containers see it as /data.")],
    package: options.Package = None,
    image: options.Image = "",
    params: options.ParamsFile = None,
    dag: options.Dag = "emd",
    set: options.Changes = None,
    parameter: options.Parameters = None,
    out: Annotated[Path, typer.Option(help="Folder for artifacts, and for what is done already.")] = Path("local_runs"),
    cache: Annotated[bool, typer.Option(help="Do not run again what ran with the same inputs.")] = True,
) -> None:
    """Run the whole Kubeflow pipeline in containers of this machine's Docker engine, without a cluster."""
    with package_file(package, image, params, dag, set, CLUSTER, None, cache) as (file, spec):
        values = typed_parameters(spec, parameter)
        require_webhook(os.environ.get("EMD_WEBHOOK", ""))
        if not run(file, image_of(spec), data.resolve(), out.resolve(), values, cache):
            raise typer.Exit(1)


def run(package: Path, image: str, data: Path, out: Path, parameters: dict[str, Any], cache: bool) -> bool:
    """Whether the pipeline succeeded."""
    from docker.types import Mount
    from kfp import components, local
    from kfp.local import docker_task_handler

    require_image(image)
    run_id = str(uuid.uuid4())  # as on a cluster, where it comes from the pod's label
    data.mkdir(parents=True, exist_ok=True)
    runner = local.DockerRunner(
        mounts=[Mount(MOUNT, str(data), type="bind")],
        environment={k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)} | {"EMD_PIPELINE_RUN": run_id},
        network_mode="host",  # an MLflow server on this machine is reached as it is from the shell
        user=f"{os.getuid()}:{os.getgid()}",  # outputs belong to who started the run
        shm_size="1g",
    )
    # kfp 2.17 lets Docker remove the container and takes one that is gone already for a success (issue 13332).
    docker_task_handler.run_docker_container = run_container
    local.init(runner=runner, pipeline_root=str(out), enable_caching=cache, cache_root=str(out / "cache"))
    warnings.filterwarnings("ignore", module="kfp.local")  # that resources mean nothing here, once for each task
    pipeline: Any = components.load_component_from_file(str(package))
    try:
        pipeline(**parameters)
    except RuntimeError as error:  # kfp's way to say that a task failed
        print(error)
        return False
    return True


def require_webhook(url: str) -> None:
    """Refuse what cannot be reached at the end of the run; the URL is a secret, so it is not repeated."""
    if url and not (urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc):
        raise UserError("EMD_WEBHOOK is no URL; write it as https://host/path, or unset it.")


def require_image(image: str) -> None:
    """Refuse to start without an engine that has the image."""
    import docker

    try:
        docker.from_env().images.get(image)
    except docker.errors.ImageNotFound:
        raise UserError(f"the Docker engine has no image {image}; build it with `make image`.") from None
    except docker.errors.DockerException as error:
        raise UserError(f"no Docker engine answers ({error}); start one, or set DOCKER_HOST to where it is.") from None


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
    """Run a container to its end, its log on our output; its exit code."""
    container = client.containers.run(image, command, volumes=volumes, detach=True, **arguments)
    try:
        for line in container.logs(stream=True, follow=True):
            print(line.decode(errors="replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
