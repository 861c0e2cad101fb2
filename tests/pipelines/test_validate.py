"""validate accepts what compile writes and names the fault of everything that the server would refuse."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, kubernetes

from emd_core.errors import UserError
from pipelines.compile import compile
from pipelines.validate import check, validate
from tests.house.contract import ROOT

Documents = list[dict[str, Any]]
DIGEST = "ghcr.io/emd/emd@sha256:" + 64 * "a"


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    """Pipeline spec and platform spec of two tasks, one of them with Kubernetes settings."""

    @dsl.container_component
    def ingest(dataset: dsl.Input[dsl.Dataset], videos: dsl.Output[dsl.Dataset]) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image=DIGEST, command=["ingest"], args=[dataset.path, videos.path])

    @dsl.container_component
    def train(videos: dsl.Input[dsl.Dataset]) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image=DIGEST, command=["train"], args=[videos.path])

    @dsl.pipeline(name="emd")
    def emd(uri: str) -> None:
        raw = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset).output
        task = train(videos=ingest(dataset=raw).output)
        kubernetes.add_node_selector(task, "pool", "gpu")
        kubernetes.add_toleration(task, key="nvidia.com/gpu", operator="Exists", toleration_seconds=60)

    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compiler.Compiler().compile(emd, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def test_what_compile_writes_is_accepted(tmp_path: Path) -> None:
    package = tmp_path / "pipeline.yaml"
    compile(image="emd:14d27ac", params=ROOT / "params/ffpp.yaml", out=package)
    assert check(package).pipeline_info.name == "emd"


def test_both_documents_are_accepted_and_described(
    documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "pipeline.yaml"
    package.write_text(yaml.safe_dump_all(documents))
    validate(package)
    said = f"{package}: pipeline emd has 3 executors, 1 parameters and the image {DIGEST}; "
    said_first, said_then = capsys.readouterr().out.splitlines()
    assert said_first.startswith(said) and said_then == "no task is tried again"


def test_what_a_server_makes_of_the_retries_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile(
        image="emd:14d27ac", params=ROOT / "params/ffpp.yaml", out=tmp_path / "pipeline.yaml", pool=["gpu=gpu-spot"]
    )
    validate(tmp_path / "pipeline.yaml")
    said = "a task is tried again up to 20 times, 300 s apart; servers of 2.17 do so for pods that were lost, not for"
    assert said in capsys.readouterr().out


def executor(documents: Documents, name: str) -> Any:
    return documents[0]["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


def platform(documents: Documents) -> Any:
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


FAULTS: dict[str, tuple[Callable[[Documents], Any], str]] = {
    "unknown field": (lambda d: d[0].update(rooot={}), 'pipeline spec: .* no field named "rooot"'),
    "unknown field of an executor": (
        lambda d: executor(d, "train").update(imagee="x"),
        'deploymentSpec: .* no field named "imagee"',
    ),
    "wrong type": (lambda d: d[0]["root"].update(dag=3), "pipeline spec: Failed to parse root field"),
    "schema": (lambda d: d[0].update(schemaVersion="2.0.0"), "schemaVersion is '2.0.0'; the server reads 2.1.0"),
    "name": (lambda d: d[0]["pipelineInfo"].update(name="EMD_1"), "the pipeline's name 'EMD_1' is refused"),
    "no name": (lambda d: d[0].pop("pipelineInfo"), "the pipeline's name '' is refused"),
    "no root": (lambda d: d[0].pop("root"), "root has no tasks"),
    "no pipeline spec": (lambda d: d.pop(0), "holds 0 pipeline specs"),
    "two pipeline specs": (lambda d: d.append(d[0]), "holds 2 pipeline specs"),
    "two platform specs": (lambda d: d.append(d[1]), "holds 2 platform specs"),
    "a list": (lambda d: d.append([1]), "holds a document that is no mapping"),
    "no such executor": (
        lambda d: d[0]["deploymentSpec"]["executors"].pop("exec-ingest"),
        "component comp-ingest names the executor 'exec-ingest', which does not exist",
    ),
    "no such component": (
        lambda d: d[0]["components"].pop("comp-ingest"),
        "task ingest names the component 'comp-ingest', which does not exist",
    ),
    "no type of a parameter": (
        lambda d: d[0]["root"]["inputDefinitions"]["parameters"]["uri"].pop("parameterType"),
        "kfp cannot load it",
    ),
    "other platform": (lambda d: d[1]["platforms"].update(slurm={}), "the platform 'slurm' is not one"),
    "unknown platform field": (lambda d: d[1].update(plattforms={}), 'platform spec: .* no field named "plattforms"'),
    "platform of no executor": (
        lambda d: platform(d).update({"exec-tran": {}}),
        "the platform spec configures 'exec-tran', which no executor is called",
    ),
    "unknown Kubernetes setting": (
        lambda d: platform(d)["exec-train"].update(nodeSelecter={}),
        'platform spec of exec-train: .* no field named "nodeSelecter"',
    ),
    "other image": (lambda d: executor(d, "train").update(image="python:3.11"), "all run the same image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_place(documents: Documents, tmp_path: Path, fault: str) -> None:
    spoil, sentence = FAULTS[fault]
    spoilt = copy.deepcopy(documents)
    spoil(spoilt)
    package = tmp_path / "pipeline.yaml"
    package.write_text(yaml.safe_dump_all(spoilt))
    with pytest.raises(UserError, match=f"{re.escape(str(package))}.*{sentence}"):
        check(package)


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("emd:14d27ac", True),
        ("localhost:5000/emd:14d27ac", True),
        (DIGEST, True),
        ("emd", False),
        ("emd:latest", False),
        ("localhost:5000/emd", False),
        ("emd@sha256:abc", False),
        ("{{$.inputs.parameters['image']}}", False),
    ],
)
def test_the_image_is_pinned(documents: Documents, tmp_path: Path, image: str, pinned: bool) -> None:
    changed = copy.deepcopy(documents)
    for name in ("train", "ingest"):
        executor(changed, name).update(image=image)
    package = tmp_path / "pipeline.yaml"
    package.write_text(yaml.safe_dump_all(changed))
    if pinned:
        check(package)
    else:
        with pytest.raises(
            UserError, match=r"is not pinned; name it by digest or by a git revision|is no image's name"
        ):
            check(package)


@pytest.mark.parametrize(("text", "sentence"), [(None, "does not exist"), ("a: [", "is not valid YAML")])
def test_the_command_exits_2_with_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    package = tmp_path / "pipeline.yaml"
    if text is not None:
        package.write_text(text)
    line = [sys.executable, "-m", "pipelines", "validate", str(package)]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert re.fullmatch(f"error: {re.escape(str(package))} {sentence}.*\n", result.stderr)
