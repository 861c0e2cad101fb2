"""Every argument of every compiled package, held against what a real Kubeflow 2.17.0 was seen to resolve.

tests/fakes/kubeflow/containers.json: what it gave the launcher of each stage, and the values that the task was given.
"""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl

from pipelines.compile import compile
from tests.house.contract import ROOT

RECORDED = json.loads((ROOT / "tests/fakes/kubeflow/containers.json").read_text())
PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}")
UNRESOLVED = {"{{$.pipeline_job_uuid}}"}  # the launcher was given it, and so was the stage
RUN_ID = {"name": "EMD_PIPELINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}


def form(placeholder: str) -> str:
    """The placeholder without the name of the input or output."""
    return re.sub(r"\['\w+'\]", "['…']", placeholder)


def forms(argument: Any) -> set[str]:
    """The forms of an argument's placeholders; a structure, such as a concatenation, is a form of its own."""
    if not isinstance(argument, str):
        return {json.dumps(argument)}
    return {form(placeholder) for placeholder in PLACEHOLDER.findall(argument)} | (
        {argument} if argument.startswith('{"Concat"') or argument.startswith('{"IfPresent"') else set()
    )


# Resolved before the launcher (the values stand in the recorded commands), and by the launcher itself.
SEEN = {"{{$.inputs.parameters['…']}}"} | {
    form for c in RECORDED if c["phase"] == "Succeeded" for a in c["command"] for form in forms(a)
} - UNRESOLVED


def unseen(package: Path) -> list[str]:
    """Each argument of the package that holds a form which nobody has seen resolved."""
    spec = next(iter(yaml.safe_load_all(package.read_text())))
    executors = spec["deploymentSpec"]["executors"]
    lines = {name: [*e["container"]["command"], *e["container"]["args"]] for name, e in executors.items()}
    return [f"{name}: {a}" for name, line in lines.items() for a in line if not forms(a) <= SEEN]


@pytest.mark.parametrize("nodes", [1, 2])
def test_every_argument_is_of_a_form_that_a_server_resolves(nodes: int, tmp_path: Path) -> None:
    """test_dag.py asks the same of every profile."""
    cluster, package = tmp_path / "cluster.yaml", tmp_path / "pipeline.yaml"
    cluster.write_text((ROOT / "pipelines/cluster.yaml").read_text().replace("nodes: 1 ", f"nodes: {nodes} "))
    compile(image="emd:abc", params=ROOT / "params/ffpp.yaml", out=package, cluster=cluster)
    assert unseen(package) == []
    _, platform = yaml.safe_load_all(package.read_text())
    for name, settings in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        assert settings["fieldPathAsEnv"] == [RUN_ID], name


@pytest.mark.parametrize(
    "argument",
    [
        lambda text, data: dsl.ConcatPlaceholder(["a=", text]),
        lambda text, data: dsl.IfPresentPlaceholder(input_name="text", then=["a"]),
        lambda text, data: dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        lambda text, data: f"run={dsl.PIPELINE_JOB_ID_PLACEHOLDER}",
        lambda text, data: dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        lambda text, data: data.uri,
    ],
    ids=["concatenation", "if present", "run's id", "run's id in a text", "run's name", "URI"],
)
def test_what_nobody_saw_resolved_is_found(argument: Any, tmp_path: Path) -> None:
    @dsl.container_component
    def stage(text: str, data: dsl.Input[dsl.Dataset]) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image="emd:abc", command=["stage"], args=["--text", text, argument(text, data)])

    @dsl.pipeline(name="emd")
    def emd(text: str) -> None:
        stage(text=text, data=dsl.importer(artifact_uri="s3://b", artifact_class=dsl.Dataset).output)

    compiler.Compiler().compile(emd, str(tmp_path / "pipeline.yaml"))
    documents = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    documents["deploymentSpec"]["executors"].pop("exec-importer")
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(documents))
    (found,) = unseen(tmp_path / "pipeline.yaml")
    assert found.startswith("exec-stage: ")


def test_a_server_gave_the_stages_what_the_package_says(tmp_path: Path) -> None:
    """With a task's own values in the place of inputs, each option reads as it was recorded."""
    compile(image="emd:abc", params=ROOT / "params/e2e.yaml", out=tmp_path / "pipeline.yaml")
    spec, _ = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    for container in RECORDED:
        if container["phase"] != "Succeeded":
            continue
        given = {
            k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in container["given"].items()
        }
        name = "exec-" + container["stage"].replace("_", "-")
        own = spec["deploymentSpec"]["executors"][name]["container"]
        line = [INPUT.sub(lambda match, given=given: given[match[1]], a) for a in [*own["command"], *own["args"]]]
        recorded = set(pairwise(container["command"]))
        assert {pair for pair in pairwise(line) if pair[0].startswith("--")} <= recorded, container["stage"]


def test_the_label_that_names_the_run_is_on_every_pod() -> None:
    runs = {c["run"] for c in RECORDED}
    assert len(runs) == 3 and all(re.fullmatch(r"[0-9a-f-]{36}", run) for run in runs)
