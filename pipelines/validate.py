"""Check a compiled package as the Kubeflow server does when it is uploaded, and that its image is pinned."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from emd_core.errors import UserError

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
IMAGE = re.compile(  # [host[:port]/]path[:tag][@digest]
    r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:(?P<tag>\w[\w.-]{0,127}))?(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
STUB_IMAGES = "argostub/"  # kfp-kubernetes' CreatePVC and DeletePVC: never pulled


def validate(package: Annotated[Path, typer.Argument(help="Compiled package (YAML).")]) -> None:
    """Check a compiled package as the Kubeflow server does when it is uploaded, and that its image is pinned."""
    spec = check(package)
    executors = spec.deployment_spec["executors"]
    print(
        f"{package}: pipeline {spec.pipeline_info.name} has {len(executors)} executors, "
        f"{len(spec.root.input_definitions.parameters)} parameters and the image {image_of(spec)}; "
        "specs, references and image are valid"
    )
    print(_retries(spec))


def _retries(spec: Any) -> str:
    """What the package asks for, and who decides: it has no word for what is worth another attempt."""
    dags = [component.dag for component in [spec.root, *spec.components.values()]]
    policies = [task.retry_policy for dag in dags for task in dag.tasks.values() if task.retry_policy.max_retry_count]
    if not policies:
        return "no task is tried again"
    most = max(policies, key=lambda policy: policy.max_retry_count)
    return (
        f"a task is tried again up to {most.max_retry_count} times, {most.backoff_duration.seconds} s apart; servers "
        "of 2.17 do so for pods that were lost, not for ones that exit with an error, unless their Argo is told "
        "`retryPolicy: Always` (docs/kubeflow.md, Retries)"
    )


def check(package: Path) -> Any:
    """The package's PipelineSpec message. UserError names the first fault and where it is."""
    pipelines, platforms = _documents(package)
    if len(pipelines) != 1:
        raise UserError(f"{package}: holds {len(pipelines)} pipeline specs; a package holds one.")
    if len(platforms) > 1:
        raise UserError(f"{package}: holds {len(platforms)} platform specs; a package holds at most one.")
    spec = _parse(pipelines[0], pipeline_spec_pb2.PipelineSpec(), f"{package}, pipeline spec")
    _check_header(spec, package)
    _check_references(spec, package)
    for platform in platforms:
        _check_platform(platform, set(spec.deployment_spec["executors"]), package)
    _check_images(_images(spec.deployment_spec["executors"]), package)
    try:
        components.load_component_from_file(str(package))
    except Exception as error:  # whatever kfp stumbles over, it is the file's fault
        raise UserError(f"{package}: kfp cannot load it ({type(error).__name__}: {error}); compile it again.") from None
    return spec


def _documents(package: Path) -> tuple[list[Any], list[Any]]:
    """The pipeline specs and the platform specs of the file."""
    if not package.is_file():
        raise UserError(f"{package} does not exist; make it with `python -m pipelines compile`.")
    try:
        documents = [d for d in yaml.safe_load_all(package.read_text()) if d is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{package} is not valid YAML ({' '.join(str(error).split())}).") from None
    for document in documents:
        if not isinstance(document, dict):
            raise UserError(f"{package}: holds a document that is no mapping; a package holds specs only.")
    # The server drops a platform spec that it cannot read without a word; here it is read strictly.
    return [d for d in documents if "platforms" not in d], [d for d in documents if "platforms" in d]


def _parse(values: Any, message: Any, where: str) -> Any:
    try:
        return json_format.ParseDict(values, message)
    except json_format.ParseError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None


def _check_header(spec: Any, package: Path) -> None:
    if spec.schema_version != "2.1.0":
        raise UserError(f"{package}: schemaVersion is '{spec.schema_version}'; the server reads 2.1.0 only.")
    if not NAME.fullmatch(spec.pipeline_info.name):
        rule = "small letters, digits, '-' and '.', with a letter or digit at both ends"
        raise UserError(f"{package}: the pipeline's name '{spec.pipeline_info.name}' is refused; use {rule}.")
    if not spec.root.dag.tasks:
        raise UserError(f"{package}: root has no tasks; a pipeline runs at least one.")


def _check_references(spec: Any, package: Path) -> None:
    """Each task's component and each component's executor exist, and the executors parse strictly."""
    deployment = json_format.MessageToDict(spec.deployment_spec)
    where = f"{package}, deploymentSpec"
    executors = _parse(deployment, pipeline_spec_pb2.PipelineDeploymentConfig(), where).executors
    for name, component in [("root", spec.root), *spec.components.items()]:
        label = component.executor_label
        if label and label not in executors:
            raise UserError(f"{package}: component {name} names the executor '{label}', which does not exist.")
        for task, settings in component.dag.tasks.items():
            reference = settings.component_ref.name
            if reference not in spec.components:
                raise UserError(f"{package}: task {task} names the component '{reference}', which does not exist.")


def _check_platform(document: Any, executors: set[str], package: Path) -> None:
    platform = _parse(document, pipeline_spec_pb2.PlatformSpec(), f"{package}, platform spec")
    unknown = set(platform.platforms) - {"kubernetes"}
    if unknown:
        raise UserError(f"{package}: the platform '{min(unknown)}' is not one that the server knows (kubernetes).")
    for name, config in platform.platforms["kubernetes"].deployment_spec.executors.items():
        if name not in executors:
            raise UserError(f"{package}: the platform spec configures '{name}', which no executor is called.")
        values = json_format.MessageToDict(config)
        _parse(values, kubernetes_executor_config_pb2.KubernetesExecutorConfig(), f"{package}, platform spec of {name}")


def _images(executors: Any) -> list[tuple[str, str]]:
    """(executor, image), but for importers and stubs."""
    images = [(name, executor["container"]["image"]) for name, executor in executors.items() if "container" in executor]
    return [(name, image) for name, image in images if not image.startswith(STUB_IMAGES)]


def image_of(spec: Any) -> str:
    """The one image of a checked package."""
    return _images(spec.deployment_spec["executors"])[0][1]


def _check_images(images: list[tuple[str, str]], package: Path) -> None:
    """One image, by digest or by a tag other than `latest`: Kubeflow's cache knows it by its name alone."""
    if not images:
        raise UserError(f"{package}: no executor runs a container.")
    for name, image in images:
        if image != images[0][1]:
            raise UserError(
                f"{package}: {name} runs {image} but {images[0][0]} runs {images[0][1]}; all run the same image."
            )
    require_pinned(images[0][1], str(package))


def require_pinned(image: str, where: str) -> None:
    """Refuse what cannot be the name of an image, or names another one tomorrow."""
    name = IMAGE.fullmatch(image)
    if name is None:
        raise UserError(f"{where}: '{image}' is no image's name; write registry/name:tag or registry/name@sha256:….")
    if not name["digest"] and name["tag"] in (None, "latest"):
        raise UserError(f"{where}: the image {image} is not pinned; name it by digest or by a git revision.")
