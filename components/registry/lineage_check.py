"""Is what a model was made from still what lies here? One finding per thing: same, differs, or not at hand."""

from collections.abc import Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from components.registry.lineage_record import Record, sha256_of
from components.tracking import dvc_lock, provenance
from emd_core.config import read_params
from emd_core.errors import UserError

SAME, DIFFERS, NOT_AT_HAND = "same", "differs", "not at hand"
PARAMS = Path("params.yaml")
MODEL = Path("models/emd/model.safetensors")
DATA = Path("data")  # where the folder of a port lies, by its name


@dataclass(frozen=True)
class Finding:
    """What was compared, how it stands, a remark, and each thing that differs."""

    what: str
    verdict: str
    remark: str = ""
    differences: list[str] = field(default_factory=list)


def check(record: Record, files: pd.DataFrame, registered: str, *, contents: bool) -> list[Finding]:
    """Compare a model's record with the repository and the data in the working directory.

    Args:
        files: every file that DVC recorded (out, path, size, md5).
        registered: SHA-256 of the checkpoint that the registry holds.
        contents: also read the data; without, their files' names and sizes are compared.
    """
    return [
        _checkpoint("registered checkpoint", record, registered),
        _checkpoint(str(MODEL), record, sha256_of(MODEL) if MODEL.is_file() else ""),
        *_code(record),
        *_commits(record),
        _params(record["params"]),
        *_dvc(record["dvc"]),
        *(_out(out, md5, files, contents) for out, md5 in _outs(record).items()),
        *(_table(port, table) for port, table in record["tables"].items() if record["dvc"] is None),
        _packages(record["runs"]),
    ]


def count(things: Sized, word: str) -> str:
    """How many there are, in words."""
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _finding(what: str, differences: list[str], remark: str = "") -> Finding:
    return Finding(what, DIFFERS if differences else SAME, remark, differences)


def _checkpoint(what: str, record: Record, found: str) -> Finding:
    """found: SHA-256, or "" where there is none."""
    recorded = record["model"]["sha256"]
    if not found:
        return Finding(what, NOT_AT_HAND)
    return _finding(what, [] if found == recorded else [f"its SHA-256 is {found[:12]}…, recorded is {recorded[:12]}…"])


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Name -> "is missing", "is new" or "changed" of what differs between two tables of names."""
    found = {name: "is missing" if name not in now else "changed" for name in then if now.get(name) != then[name]}
    return found | {name: "is new" for name in now if name not in then}


def _words(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{name} {how}" for name, how in differing(then, now).items()]


def _code(record: Record) -> Iterator[Finding]:
    """The code of the runs against the code that runs now; runs of one code are one finding."""
    now = provenance.code()
    for digest, listing in record["code"].items():
        stages = [stage for stage, run in record["runs"].items() if run and run.get("code") == digest]
        yield _finding(f"code of {', '.join(stages)}", _words(listing, now), count(listing, "file"))
    if not record["code"]:
        yield Finding("code", NOT_AT_HAND, "no run recorded it")


def _commits(record: Record) -> Iterator[Finding]:
    """Whether each commit is known here, and holds, with the patch that was kept, the code that ran."""
    seen: dict[tuple[str, str], list[str]] = {}
    for stage, run in record["runs"].items():
        if run and run["tags"].get("git.commit") and run.get("code"):
            seen.setdefault((run["tags"]["git.commit"], run["code"]), []).append(stage)
    here = provenance.commit()
    nowhere = f"the commit here is {here}" if here.startswith(provenance.UNKNOWN) else "no repository here has it"
    for (commit, code), stages in seen.items():
        if commit.startswith(provenance.UNKNOWN):
            yield Finding(f"commit of {', '.join(stages)}", NOT_AT_HAND, f"{commit} when it ran")
            continue
        what = f"commit {commit[:8]} of {', '.join(stages)}"
        held = _tree(commit.removesuffix("-dirty"))
        patch = record["runs"][stages[0]].get("patch", "")
        if not held:
            yield Finding(what, NOT_AT_HAND, nowhere)
            continue
        patched = {line.split(" b/", 1)[1] for line in patch.splitlines() if line.startswith("diff --git ")}
        different = {n: how for n, how in differing(held, record["code"][code]).items() if n not in patched}
        remark = f"with changes that were not committed, kept as a patch of {count(patched, 'file')}" if patched else ""
        yield _finding(what, [f"{name} {how} in what ran" for name, how in different.items()], remark)


def _tree(commit: str) -> dict[str, str]:
    """Path -> git's name of the content of the stages' code in a commit; {} where it is unknown."""
    lines = provenance.git("ls-tree", "-r", "--full-tree", commit, "--", *provenance.CODE).splitlines()
    listed = {path: about.split()[2] for about, _, path in (line.partition("\t") for line in lines)}
    return {path: blob for path, blob in listed.items() if path.endswith(provenance.KINDS)}


def _params(then: Mapping[str, Any]) -> Finding:
    try:
        now = provenance.without_secrets(read_params(PARAMS))
    except UserError:
        return Finding(str(PARAMS), NOT_AT_HAND)
    before, after = ({s: sections.get(s) for s in then} for sections in (then, now))
    return _finding(str(PARAMS), list(_changed(before, after)), count(then, "section"))


def _changed(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """Each value that differs, as section.key: then -> now."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(k for k in now if k not in then)]:
            yield from _changed(then.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif then != now:
        yield f"{name}: {then} then, {now} now"


def _dvc(then: Mapping[str, Any] | None) -> Iterator[Finding]:
    if then is None:
        return
    now = dvc_lock.read()
    if now is None:
        yield Finding(str(dvc_lock.LOCK), NOT_AT_HAND)
        return
    both = [(name, then["stages"].get(name), now.stages.get(name)) for name in then["stages"] | now.stages]
    different = [f"{stage}: {d}" for stage, old, new in both for d in _stage(old or {}, new or {})]
    yield Finding(str(dvc_lock.LOCK), SAME if now.md5 == then["md5"] else DIFFERS, f"md5 {then['md5']}", different)


def _stage(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("deps", "outs"):
        yield from _words(then.get(kind, {}), now.get(kind, {}))
    yield from _changed(then.get("params"), now.get("params"), "params")


def _outs(record: Record) -> dict[str, str]:
    return {} if record["dvc"] is None else dvc_lock.Lock("", record["dvc"]["stages"]).outs()


def _out(out: str, md5: str, files: pd.DataFrame, contents: bool) -> Finding:
    """A folder (or file) of data; named are the files that were recorded with another size or content."""
    place = Path(out)
    if not place.exists():
        return Finding(out, NOT_AT_HAND)
    listed = files[files["out"] == out]
    recorded = zip(listed["path"], listed["size"], listed["md5"], strict=True)
    then: dict[str, tuple[int, str]] = {str(path): (int(size), str(digest)) for path, size, digest in recorded}
    found = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    now = {path.relative_to(place).as_posix() if path != place else "": path for path in found}
    if not then:  # its list was in no cache: only the whole can be compared
        whole = dvc_lock.md5_of_list((name, dvc_lock.md5_of(path)) for name, path in now.items())
        return _finding(out, [] if whole == md5 else ["its files are not the recorded ones, whose names are unknown"])
    different = [f"{out}/{name} is missing" for name in then if name not in now]
    different += [f"{out}/{name} is new" for name in now if name not in then]
    same_name = [name for name in then if name in now]
    sizes = {name: now[name].stat().st_size for name in same_name}
    resized = [name for name in same_name if then[name][0] not in (-1, sizes[name])]
    different += [f"{out}/{name} changed: {then[name][0]} bytes then, {sizes[name]} now" for name in resized]
    if contents:
        rest = [name for name in same_name if name not in set(resized)]
        with ThreadPoolExecutor() as pool:
            digests = pool.map(lambda name: dvc_lock.md5_of(now[name]), rest)
            changed = [name for name, found in zip(rest, digests, strict=True) if found != then[name][1]]
        different += [f"{out}/{name} changed in content" for name in changed]
    return _finding(out, different, count(then, "file") + ("" if contents else ", by name and size"))


def _table(port: str, then: Mapping[str, Any]) -> Finding:
    """A table of a stage that DVC did not record, by its id."""
    folder = DATA / port
    now = provenance.table_of(folder)
    if not now:
        return Finding(f"table {folder}", NOT_AT_HAND)
    return _finding(f"table {folder}", [] if now["id"] == then["id"] else [f"{then['id']} then, {now['id']} now"])


def _packages(runs: Mapping[str, Any]) -> Finding:
    """Versions at the training (at the promotion, if that is unknown) against those installed here."""
    stage = next(s for s in ("train_emd", "promote") if runs[s] and "environment" in runs[s])
    then, now = runs[stage]["environment"], provenance.environment()
    before, after = ({"python": e["python"], **e["packages"]} for e in (then, now))
    return _finding(f"packages of {stage}", list(_changed(before, after)), count(before, "version"))
