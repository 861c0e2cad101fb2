"""What DVC recorded of the pipeline: `dvc.lock`, and the lists of files in its cache."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from emd_core.reading import read_json, reading

LOCK, PARAMS = Path("dvc.lock"), "params.yaml"
CODE = ("components/", "emd_core/", "pipelines/")
FOLDER = ".dir"  # ends the md5 of a folder, which is that of the list of its files


class _Yaml(yaml.CSafeLoader):
    """Reads 1e-08, as DVC writes numbers, as one; YAML 1.1 takes it for a text."""


_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?e[-+]?\d+$")
_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))


@dataclass(frozen=True)
class Lock:
    """dvc.lock: its md5, and each stage's parameters (key -> value), dependencies and outputs (path -> md5)."""

    md5: str
    stages: dict[str, dict[str, Any]]

    def outs(self) -> dict[str, str]:
        """Path -> md5 of all that the stages wrote, in the order of the stages."""
        return {path: md5 for stage in self.stages.values() for path, md5 in stage["outs"].items()}

    def sources(self) -> dict[str, str]:
        """Path -> md5 of the data that were made from no other data: the dataset."""
        made = {path for stage in self.stages.values() if any(_data(stage["deps"])) for path in stage["outs"]}
        read = {path: md5 for stage in self.stages.values() for path, md5 in _data(stage["deps"])}
        return {path: md5 for path, md5 in sorted(read.items()) if path not in made}

    def revision(self) -> str:
        """The dataset in one line: its folders, each with the begin of its md5."""
        return ", ".join(f"{path} {md5[:12]}" for path, md5 in self.sources().items())


def read(path: Path = LOCK) -> Lock | None:
    """The lock file; None where there is none."""
    if not path.exists():
        return None
    remedy = "resolve its conflicts, restore it from git, or make it anew (`dvc commit`)"
    with reading(path, "a lock file of DVC with the stages' inputs and outputs", remedy):
        text = path.read_bytes()
        stages = {name: _stage(name, entry) for name, entry in (yaml.load(text, _Yaml)["stages"] or {}).items()}
    return Lock(hashlib.md5(text).hexdigest(), stages)


def _stage(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = next((held[name] for held in entry.get("params", {}).values() if name in held), {})
    paths = {kind: {item["path"]: item["md5"] for item in entry.get(kind, [])} for kind in ("deps", "outs")}
    return {"params": params, **paths}


def _data(deps: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((path, md5) for path, md5 in deps.items() if not path.startswith(CODE))


def files(lock: Lock) -> pd.DataFrame:
    """Every file of every output: out, path (relative to it; "" for an output that is a file), size, md5.

    The lists are the ones that DVC keeps in its cache, the sizes (bytes) those of the files at hand or -1; an output
    whose list is in no cache here is left out.
    """
    cache = _cache()
    rows = []
    for out, md5 in lock.outs().items():
        listed = _listed(cache, md5) if md5.endswith(FOLDER) else [{"relpath": "", "md5": md5}]
        for file in listed:
            place = Path(out) / file["relpath"]
            rows.append((out, file["relpath"], place.stat().st_size if place.is_file() else -1, file["md5"]))
    return pd.DataFrame(rows, columns=["out", "path", "size", "md5"])


def describes(lock: Lock, folder: Path) -> bool:
    """True if `folder` is, to the byte, an output that the lock names."""
    held = [(path.relative_to(folder).as_posix(), md5_of(path)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return md5_of_list(held) in lock.outs().values()


def md5_of_list(held: Iterable[tuple[str, str]]) -> str:
    """The md5 of a folder, as DVC counts it: (path within it, md5) of each file."""
    listed = [{"md5": md5, "relpath": path} for path, md5 in sorted(held)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + FOLDER


def _listed(cache: Path | None, md5: str) -> list[dict[str, str]]:
    place = None if cache is None else cache / "files/md5" / md5[:2] / md5[2:]
    if place is None or not place.is_file():
        return []
    listed: list[dict[str, str]] = read_json(place, "a list of files in DVC's cache", "delete it and run `dvc pull`")
    return listed


def _cache() -> Path | None:
    try:
        done = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no DVC here, or no repository of it
        return None
    return Path(done.stdout.strip())


def md5_of(path: Path) -> str:
    """The md5 of a file, as DVC counts it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
