"""What must agree between signatures, dvc.yaml and params.yaml, and where it does not."""

import functools
import inspect
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grimp

from components.command_line.stages import ports
from emd_core.config import section
from emd_core.errors import UserError

ROOT = Path(__file__).parents[2]
# promote and report write to the registry, which `dvc repro` must never do; the others exist for a cluster alone.
NOT_IN_DVC = {"promote", "report", "fetch_data", "merge_shards"}
OF_COMMANDS = ("detect", "serve")  # sections of commands that are no stages
FLOORS = ("components", "emd_core", "pipelines")
MOST = 6  # rooms and files of code that one stage may name
# Imported by stages, but they cannot change what one writes: values come by `params:`, a worker's results are in order.
NO_OUTPUT = ("components.tracking", *(f"emd_core.{name}" for name in ("config", "errors", "parallel", "reading")))
# Of a training's outputs none is a picture: it only shows them in MLflow while it runs.
NO_OUTPUT_OF = {"train_emd": ("emd_core.pages",)}

Stages = Mapping[str, Callable[..., None]]


def disagreements(dvc: dict[str, Any], params: dict[str, Any], stages: Stages) -> list[str]:
    """One sentence per place where they disagree; none if all is well."""
    found = [f"dvc.yaml: stage '{n}' is no component" for n in dvc["stages"] if n not in stages]
    found += [f"dvc.yaml: stage '{n}' is missing" for n in stages if n not in dvc["stages"] and n not in NOT_IN_DVC]
    found += [f"dvc.yaml: '{n}' must not be a DVC stage" for n in NOT_IN_DVC & set(dvc["stages"])]
    found += [f"params.yaml: section '{n}' belongs to no stage" for n in params if n not in (*stages, *OF_COMMANDS)]
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
    data = [d for d in entry["deps"] if not _is_code(d)]
    unread = needed - {path for d in data for path in needed if Path(d).is_relative_to(path)}
    found += [f"{where}: reads {path}, which is not in deps" for path in sorted(unread)]
    surplus = {d for d in data if not any(Path(d).is_relative_to(path) for path in needed)}
    found += [f"{where}: dep {path} is not read by cmd" for path in sorted(surplus)]
    return found + code_disagreements(where, entry["deps"], name)


def code_disagreements(where: str, deps: list[str], stage: str) -> list[str]:
    """Where the code among `deps`, rooms and the stage's own file, is not what `components/<stage>.py` imports."""
    code = [d for d in deps if _is_code(d)]
    found = [f"{where}: names {len(code)} places of code, more than {MOST}"] if len(code) > MOST else []
    own = f"components/{stage}.py"
    found += [f"{where}: dep {d} is no room and not {own}" for d in code if not (ROOT / d).is_dir() and d != own]
    files = imported_files(stage)
    missing = {str(Path(f).parent): Path(f).name for f in sorted(files) if not any(_lies_in(f, d) for d in code)}
    found += [f"{where}: imports {room} ({file}), which is not in deps" for room, file in missing.items()]
    unused = [d for d in code if not any(_lies_in(f, d) for f in files)]
    return found + [f"{where}: dep {d} is not imported" for d in unused]


def _is_code(dep: str) -> bool:
    return dep.split("/")[0] in FLOORS


def _lies_in(file: str, dep: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


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


@functools.cache
def imports() -> grimp.ImportGraph:
    """What imports what, wherever in a file; packages of others by their top-level name."""
    return grimp.build_graph(*FLOORS, include_external_packages=True, cache_dir=None)


def upward_in(graph: grimp.ImportGraph, floors: tuple[str, ...] = ("components", "pipelines")) -> list[str]:
    """Where a room imports a verb, a file beside the rooms; import-linter has no word for files that are not named."""
    return [
        f"{module} imports {used}; what they share belongs into a room"
        for module in sorted(graph.modules)
        for used in sorted(graph.find_modules_directly_imported_by(module))
        if module.startswith(floors) and module.count(".") > 1 and used.startswith(floors) and used.count(".") == 1
        if (ROOT / f"{used.replace('.', '/')}.py").is_file()
    ]


def imported_files(stage: str) -> set[str]:
    """The project's files that a stage imports and that can change its output, its own included, however deep."""
    left_out = NO_OUTPUT + NO_OUTPUT_OF.get(stage, ())
    seen: set[str] = set()
    waiting = {f"components.{stage}"}
    while waiting:
        module = waiting.pop()
        if module not in seen and not f"{module}.".startswith(tuple(f"{m}." for m in left_out)):
            seen.add(module)
            waiting |= imports().find_modules_directly_imported_by(module)
    files = {f"{module.replace('.', '/')}.py" for module in seen}
    return {f for f in files if (ROOT / f).is_file()}  # of a package only what is imported from it counts
