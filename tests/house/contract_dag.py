"""What must agree between the compiled Kubeflow pipeline, the stages and dvc.yaml, and where it does not."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from components import Ins
from components.command_line.stages import ports
from tests.house.contract import flags

Edges = dict[tuple[str, str], str]  # (stage, port) -> the stage that feeds it

# In a cluster the data are fetched, not drawn, and what the shards made is joined before anybody else reads it.
INSTEAD_OF = {"make_sample": "fetch_data"}
SHARDED = {"extract_frames", "crop_faces", "generate_masks"}
JOINED = {"faces", "masks"}


@dataclass
class Tasks:
    """A compiled pipeline, its nested groups laid flat."""

    executors: Mapping[str, Any]
    edges: Edges = field(default_factory=dict)  # artifacts and, for what lies on the volume, the order of tasks
    tasks: dict[str, Any] = field(default_factory=dict)


def stage_name(name: str) -> str:
    return name.removeprefix("comp-").replace("-", "_")


def read_tasks(spec: Mapping[str, Any]) -> Tasks:
    """Follow every artifact through loops, branches and the exit handler to the task that writes it."""
    found = Tasks({stage_name(n.removeprefix("exec-")): e for n, e in spec["deploymentSpec"]["executors"].items()})

    def origin(dag: Mapping[str, Any], wire: Mapping[str, Any], outer: Mapping[str, str]) -> str:
        if "componentInputArtifact" in wire:
            return outer[wire["componentInputArtifact"]]
        producer, key = wire["taskOutputArtifact"]["producerTask"], wire["taskOutputArtifact"]["outputArtifactKey"]
        component = spec["components"].get(dag["tasks"].get(producer, {}).get("componentRef", {}).get("name"), {})
        if "dag" not in component:
            return stage_name(producer)
        (selector,) = component["dag"]["outputs"]["artifacts"][key]["artifactSelectors"]
        inner = {"taskOutputArtifact": {**selector, "producerTask": selector["producerSubtask"]}}
        return origin(component["dag"], inner, {})

    def walk(dag: Mapping[str, Any], outer: Mapping[str, str]) -> None:
        for name, task in dag["tasks"].items():
            wires = task["inputs"].get("artifacts", {})
            fed = {port: origin(dag, wire, outer) for port, wire in wires.items()}
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                walk(component["dag"], fed)
            else:
                found.tasks[stage_name(name)] = task
                found.edges |= {(stage_name(name), port): producer for port, producer in fed.items()}

    walk(spec["root"]["dag"], {})
    return found


def dvc_edges(dvc: Mapping[str, Any], stages: Mapping[str, Callable[..., None]]) -> Edges:
    """Who feeds whom in dvc.yaml, in the words of the cluster."""
    options = {name: flags(entry["cmd"])[1] for name, entry in dvc["stages"].items()}
    written = {
        path: name
        for name, given in options.items()
        for option, path in given.items()
        if ports(stages[name])[option[2:]] == "out"
    }
    edges: Edges = {}
    for name, given in options.items():
        for option, path in given.items():
            port = option[2:]
            if ports(stages[name])[port] == "in":
                joined = port in JOINED and name not in SHARDED
                producer = "merge_shards" if joined else INSTEAD_OF.get(written[path], written[path])
                edges[name, port] = producer
    return edges


def dag_disagreements(
    spec: Mapping[str, Any],
    dvc: Mapping[str, Any],
    params: Mapping[str, Any],
    stages: Mapping[str, Callable[..., None]],
) -> list[str]:
    """One sentence per place where they disagree; none if all is well."""
    flat = read_tasks(spec)
    wanted = set(stages) - set(INSTEAD_OF)
    found = [f"DAG: stage '{name}' is missing" for name in sorted(wanted - set(flat.tasks))]
    found += [f"DAG: task '{name}' is no component" for name in sorted(set(flat.tasks) - wanted - {"notify"})]
    for name in sorted(wanted & set(flat.tasks)):
        found += _container(name, flat.executors[name]["container"], stages[name])
        default = spec["root"]["inputDefinitions"]["parameters"].get(f"{name}_cfg", {}).get("defaultValue", "{}")
        found += [f"DAG: {name}_cfg is not the section {name}"] if json.loads(default) != params[name] else []
    on_volume = {(stage, port) for stage, port in dvc_edges(dvc, stages) if port in ("dataset", "expressions")}
    for (stage, port), producer in dvc_edges(dvc, stages).items():
        if stage in INSTEAD_OF or (stage, port) in on_volume:
            continue
        if flat.edges.get((stage, port)) != producer:
            found.append(f"DAG: {stage}.{port} comes from {flat.edges.get((stage, port))}, in dvc.yaml from {producer}")
    for stage, port in on_volume:
        if not _after(spec, flat, stage, "fetch_data"):
            found.append(f"DAG: {stage}.{port} is read from the volume before fetch_data has ended")
    return found


def _container(name: str, container: Mapping[str, Any], stage: Callable[..., None]) -> list[str]:
    found = []
    if container["command"][-3:] != ["-m", "components", name]:
        found.append(f"DAG: {name} runs {container['command']}")
    args = container["args"]
    given = {arg[2:]: value for arg, value in zip(args[::2], args[1::2], strict=True)}
    for port, direction in ports(stage).items():
        parameter = inspect.signature(stage).parameters[port]
        if parameter.annotation is Ins or (parameter.default is None and port not in given):
            continue  # the executor input carries lists; optional ports may be left out
        place = given.pop(port, "")
        own = f"{{{{$.{direction}puts.artifacts['{port}'].path}}}}"
        if place != own and place != f"/data/{{{{$.inputs.parameters['revision']}}}}/{port}":
            found.append(f"DAG: {name} has --{port} {place or 'not at all'}, not {own}")
    known = {"section", "set", "kubeflow"}
    return found + [f"DAG: --{option} is no port of {name}" for option in sorted(set(given) - known)]


def _after(spec: Mapping[str, Any], flat: Tasks, stage: str, first: str) -> bool:
    """Whether `stage` starts only when `first` has ended."""
    before = {stage_name(n) for n in flat.tasks[stage].get("dependentTasks", [])}
    before |= {producer for (reader, _), producer in flat.edges.items() if reader == stage}
    return first in before or any(_after(spec, flat, earlier, first) for earlier in before if earlier in flat.tasks)
