"""Where a run comes from: its code, parameters, data and machine, as tags of the run and as files beside it.

provenance/provenance.json  the parameters, a digest of every file of code, versions of packages, the machine
provenance/dirty.patch      what the code and the parameters had that the commit has not, if anything
"""

import getpass
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.tracking import dvc_lock
from components.tracking.address import address
from emd_core.config import Config, digest

FOLDER, RECORD, PATCH = "provenance", "provenance.json", "dirty.patch"
MODEL = "model.digest"  # tag of a run: the checkpoint that it made or is about
# What can change a result, or in whose files it is written.
PACKAGES = ["albumentations", "av", "dvc", "facenet-pytorch", "great-expectations", "mlflow", "numpy"]
PACKAGES += ["opencv-python-headless", "pandas", "pyarrow", "pydantic", "retinaface-pytorch", "safetensors"]
PACKAGES += ["scikit-learn", "scipy", "segmentation-models-pytorch", "timm", "torch", "torchvision"]
CODE, KINDS = ("components", "emd_core"), (".py", ".j2")
TRACKED = ("*.py", "*.j2", "*.yaml", "requirements*.lock")
LONGEST_PATCH = 1_000_000  # bytes; more is cut off, and the patch says so
UNKNOWN = "unknown"  # begins what `commit` says where git does not tell
NOT_INSTALLED = "not installed"
NO_COMMIT = {  # git's words -> why there is no commit
    NOT_INSTALLED: "git is not installed",
    "dubious ownership": "the repository belongs to another user, which git refuses",
    "Needed a single revision": "the repository has no commit yet",
    "not a git repository (or any": "no git repository is here",
    "not a git repository:": "the repository of this worktree is not here",
}
Inputs = Mapping[str, Path | None]


def tags(stage: str, cfg: Config, inputs: Inputs) -> dict[str, str]:
    """Tags that say which code, parameters and data a run was made from; what is unknown is left out.

    `inputs` (port name -> folder) become `input.<port>`: the id of the folder's table, or the digest of its checkpoint.
    """
    given = {port: folder for port, folder in inputs.items() if folder is not None}
    tables = {port: table["id"] for port, folder in given.items() if (table := table_of(folder))}
    models = {port: model_digest(folder) for port, folder in given.items()}
    lock = dvc_lock.read()
    known = {
        "stage": stage,
        "mlflow.user": user(),
        "git.commit": commit(),
        "git.dirty": _dirty(),
        "image": os.environ.get("EMD_IMAGE", ""),
        "params.digest": digest(cfg.model_dump(mode="json")),
        "seed": str(getattr(cfg, "seed", "")),
        "data.digest": digest(tables) if tables else "",
        "data.revision": "" if lock is None else lock.revision(),
        "dvc.lock": "" if lock is None else lock.md5,
        "gpu": ", ".join(gpus()),
        "pipeline.run": os.environ.get("EMD_PIPELINE_RUN", ""),
        **{name: os.environ.get(name, "") for name in ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")},
        **{f"input.{port}": identity for port, identity in {**models, **tables}.items()},
    }
    return {key: value for key, value in known.items() if value}


def parameters(cfg: Config) -> dict[str, Any]:
    """A stage's parameters as they are recorded: an address without its user's name and password."""
    return dict(without_secrets(cfg.model_dump(mode="json")))


def without_secrets(value: Any) -> Any:
    """A JSON-like value whose addresses name no user and no password."""
    if isinstance(value, dict):
        return {key: without_secrets(held) for key, held in value.items()}
    if isinstance(value, list):
        return [without_secrets(held) for held in value]
    return address(value) if isinstance(value, str) and "://" in value and "@" in value else value


def write(folder: Path, cfg: Config) -> None:
    """Write provenance.json and, where code or parameters differ from the commit, dirty.patch into `folder`."""
    record = {"params": parameters(cfg), "environment": environment(), "code": code()}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    if patch := dirty_patch():
        (folder / PATCH).write_text(patch)


def commit() -> str:
    """The commit of the code, 40 hex digits, or "unknown (<reason>)".

    Images carry it in EMD_GIT_COMMIT, with "-dirty" behind it where they hold something else.
    """
    found, refusal = _ask("git", "rev-parse", "--verify", "HEAD")
    return found.strip() or os.environ.get("EMD_GIT_COMMIT") or f"{UNKNOWN} ({_why_no_commit(refusal)})"


def unread_repository() -> str:
    """A sentence if a repository is here and git does not tell its commit, with the remedy; else ""."""
    known = commit()
    if not known.startswith(UNKNOWN) or not any((p / ".git").exists() for p in (Path.cwd(), *Path.cwd().parents)):
        return ""
    refusal = _ask("git", "rev-parse", "--verify", "HEAD")[1]
    remedy = next((line.strip() for line in refusal.splitlines() if "safe.directory" in line), "git status")
    return f"git does not tell which commit this is, so runs carry git.commit: {known}; `{remedy}` helps or says more."


def _why_no_commit(refusal: str) -> str:
    for said, reason in NO_COMMIT.items():
        if said in refusal:
            return reason
    return (refusal.strip().splitlines() or ["git failed"])[0].removeprefix("fatal: ")


def _dirty() -> str:
    """ "true" if code or parameters differ from the commit, else "false"; "" outside a repository."""
    if not git("rev-parse", "--show-toplevel"):
        return ""
    return str(bool(git("status", "--porcelain", "--", *TRACKED))).lower()


def dirty_patch() -> str:
    """What `git diff HEAD` says of tracked code and parameters, for `git apply`; "" where nothing differs.

    Files that git does not know are in no patch; `code()` has their digests.
    """
    patch = git("diff", "HEAD", "--", *TRACKED)
    if len(patch) <= LONGEST_PATCH:
        return patch
    return f"{patch[:LONGEST_PATCH]}\n[cut off: the patch has {len(patch)} characters, {LONGEST_PATCH} are kept]\n"


def code() -> dict[str, str]:
    """Path -> git's name of the content (SHA-1 of a blob, 40 hex digits) of each file of the stages' code."""
    root = Path(__file__).parents[2]
    paths = sorted(path for folder in CODE for kind in KINDS for path in (root / folder).rglob(f"*{kind}"))
    return {path.relative_to(root).as_posix(): _blob(path.read_bytes()) for path in paths}


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def environment() -> dict[str, Any]:
    """Versions of Python and packages, and the machine; torch is asked only where the stage has loaded it."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "packages": {name: number for name in PACKAGES if (number := _installed(name))},
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": gpus(),
        "cuda": None if torch is None else torch.version.cuda,
        "image": os.environ.get("EMD_IMAGE"),
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the image has not all
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@cache
def gpus() -> list[str]:
    """Name and driver version of each GPU, as the driver's own tool gives them."""
    answer = _run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return [line.replace(", ", " driver ") for line in answer.splitlines()]


def user() -> str:
    """The user of the MLflow server, else of this machine."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return f"user {os.getuid()}"


def model_digest(folder: Path) -> str:
    """Twelve hex digits that identify the checkpoint of a folder; "" where there is none."""
    # Not models.checkpoint's name of it: that imports torch, and most stages have no other use for it.
    checkpoints = sorted(folder.glob("[!.]*.safetensors"))
    if not checkpoints:
        return ""
    with checkpoints[0].open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def table_of(folder: Path) -> dict[str, Any]:
    """{"id", "made_from": {port: id}} of a folder's manifest; {} where there is none."""
    path = folder / "manifest.parquet"
    metadata = (pq.read_schema(path).metadata or {}) if path.is_file() else {}
    return dict(json.loads(metadata[b"emd"])) if b"emd" in metadata else {}


def git(*arguments: str) -> str:
    """What git says; "" where it fails, as in an image, which has no repository."""
    return _run("git", *arguments)


def _run(*command: str) -> str:
    return _ask(*command)[0]


def _ask(*command: str) -> tuple[str, str]:
    """What a program says, in English; where it fails "", and what it says of that."""
    english = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=english)
    except OSError:
        return "", NOT_INSTALLED
    return ("", done.stderr) if done.returncode else (done.stdout, "")
