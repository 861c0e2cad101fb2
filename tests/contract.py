"""What must agree between signatures, dvc.yaml and params.yaml, and where it does not."""

import ast
import inspect
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.__main__ import ports
from emd_core.config import section
from emd_core.errors import UserError

ROOT = Path(__file__).parent.parent
# promote and report write to the registry, which `dvc repro` must never do; the others exist for a cluster alone.
NOT_IN_DVC = {"promote", "report", "fetch_data", "merge_shards"}
# Imported by stages, but they cannot change what a stage writes.
FLOORS = ("components/", "emd_core/", "pipelines/")
NO_OUTPUT = {"emd_core/errors.py"} | {
    f"components/{name}.py" for name in ("delivery", "mlflow_server", "outbox", "provenance", "stage_run", "tracking")
}

Stages = Mapping[str, Callable[..., None]]


def disagreements(dvc: dict[str, Any], params: dict[str, Any], stages: Stages) -> list[str]:
    """One sentence per place where they disagree; none if all is well."""
    found = [f"dvc.yaml: stage '{n}' is no component" for n in dvc["stages"] if n not in stages]
    found += [f"dvc.yaml: stage '{n}' is missing" for n in stages if n not in dvc["stages"] and n not in NOT_IN_DVC]
    found += [f"dvc.yaml: '{n}' must not be a DVC stage" for n in NOT_IN_DVC & set(dvc["stages"])]
    found += [f"params.yaml: section '{n}' belongs to no stage" for n in params if n not in stages]
    for name, stage in stages.items():
        found += _section(name, stage, params)
        if name in dvc["stages"]:
            found += _stage(name, dvc["stages"][name], stage)
    return found + _edges(dvc, stages) + _figures(dvc)


def _section(name: str, stage: Callable[..., None], params: dict[str, Any]) -> list[str]:
    model = inspect.signature(stage).parameters["cfg"].annotation
    defaults = [f"{name}: field '{f}' has a default" for f, i in model.model_fields.items() if not i.is_required()]
    try:
        section(params, name, model, where="params.yaml")
    except UserError as error:
        return [*defaults, str(error)]
    return defaults


def flags(cmd: str) -> tuple[str, dict[str, str]]:
    """The verb and the options of `python -m components <verb> --port path …`."""
    words = shlex.split(cmd)
    return " ".join(words[:4]), dict(zip(words[4::2], words[5::2], strict=False))


def _stage(name: str, entry: dict[str, Any], stage: Callable[..., None]) -> list[str]:
    where = f"dvc.yaml: {name}"
    verb, options = flags(entry["cmd"])
    found = [] if verb == f"python -m components {name}" else [f"{where}: cmd runs '{verb}'"]
    found += [] if entry.get("params") == [name] else [f"{where}: params must be [{name}]"]
    directions = ports(stage)
    optional = {p for p in directions if inspect.signature(stage).parameters[p].default is None}
    given = {option.removeprefix("--"): path for option, path in options.items()}
    found += [f"{where}: --{p} is no port of {name}" for p in given if p not in directions]
    found += [f"{where}: port '{p}' is not in cmd" for p in directions if p not in given and p not in optional]
    outs = {path for p, path in given.items() if directions.get(p) == "out"}
    found += [f"{where}: outs are {entry['outs']}, cmd writes {sorted(outs)}"] if set(entry["outs"]) != outs else []
    needed = {path for p, path in given.items() if directions.get(p) == "in"}
    found += [f"{where}: reads {path}, which is not in deps" for path in sorted(needed - set(entry["deps"]))]
    surplus = {d for d in entry["deps"] if not d.startswith(FLOORS)} - needed
    found += [f"{where}: dep {path} is not read by cmd" for path in sorted(surplus)]
    return found + code_disagreements(where, entry["deps"], f"components/{name}.py")


def code_disagreements(where: str, deps: list[str], file: str) -> list[str]:
    """Where the code among `deps` is not what `file` imports."""
    code = [d for d in deps if d.startswith(FLOORS)]
    imports = imported_files(file)
    missing = [f for f in imports if not any(f == d or f.startswith(f"{d}/") for d in code)]
    found = [f"{where}: imports {f}, which is not in deps" for f in missing]
    unused = [d for d in code if not d.endswith(".j2") and not any(f == d or f.startswith(f"{d}/") for f in imports)]
    return found + [f"{where}: dep {d} is not imported" for d in unused]


def _edges(dvc: dict[str, Any], stages: Stages) -> list[str]:
    """A port is fed by the stage that writes a port of the same name."""
    written: dict[str, str] = {}
    read: list[tuple[str, str, str]] = []
    for name in set(dvc["stages"]) & set(stages):
        for option, path in flags(dvc["stages"][name]["cmd"])[1].items():
            port = option.removeprefix("--")
            if ports(stages[name]).get(port) == "out":
                written[path] = port
            else:
                read.append((name, port, path))
    return [
        f"dvc.yaml: {name}: --{port} reads {path}, which is "
        + (f"written as --{written[path]}" if path in written else "written by no stage")
        for name, port, path in sorted(read)
        if written.get(path) != port
    ]


def _figures(dvc: dict[str, Any]) -> list[str]:
    outs = [out for entry in dvc["stages"].values() for out in entry["outs"]]
    paths = list(dvc["metrics"])
    for plot in dvc["plots"]:
        axes = next(iter(plot.values())) if isinstance(plot, dict) else {"y": {plot: None}}
        paths += [path for axis in axes.values() if isinstance(axis, dict) for path in axis]
    return [f"dvc.yaml: {p} is in no stage's outs" for p in paths if not p.startswith(tuple(f"{o}/" for o in outs))]


def imported_files(file: str) -> set[str]:
    """The project's files that `file` imports, itself included, however deep and wherever in the file."""
    seen: set[str] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current in seen or current in NO_OUTPUT:
            continue
        seen.add(current)
        for module in imported_modules(ROOT / current):
            path = module.replace(".", "/")
            waiting += [f for f in (f"{path}.py",) if path.startswith(FLOORS) and (ROOT / f).is_file()]
    return {f for f in seen if not f.endswith("__init__.py")}


def imported_modules(path: Path) -> set[str]:
    """Dotted names of all modules that a file may import; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names
