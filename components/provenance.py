"""Where a run comes from: its code, parameters and data, as tags of the run."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from emd_core.config import Config, digest


def tags(stage: str, cfg: Config, inputs: Mapping[str, Path | None]) -> dict[str, str]:
    """Tags that say which code, parameters and data a run was made from; what is unknown is left out."""
    data = {port: _manifest_id(folder) for port, folder in inputs.items() if folder is not None}
    data = {port: manifest for port, manifest in data.items() if manifest}
    known = {
        "stage": stage,
        "git.commit": commit(),
        "git.dirty": _dirty(),
        "params.digest": digest(cfg.model_dump(mode="json")),
        "data.digest": digest(data) if data else "",
        "DVC_EXP_NAME": os.environ.get("DVC_EXP_NAME", ""),
        **{f"input.{port}": manifest for port, manifest in data.items()},
    }
    return {key: value for key, value in known.items() if value}


def commit() -> str:
    """The commit of the code, 40 hex digits; "" where it is unknown.

    Images carry it in EMD_GIT_COMMIT, with "-dirty" behind it where they hold something else.
    """
    return _git("rev-parse", "--verify", "-q", "HEAD") or os.environ.get("EMD_GIT_COMMIT", "")


def _dirty() -> str:
    """ "true" if code or parameters differ from the commit, else "false"; "" outside a repository."""
    if not _git("rev-parse", "--show-toplevel"):
        return ""
    return str(bool(_git("status", "--porcelain", "--", "*.py", "*.yaml", "requirements.lock"))).lower()


def _manifest_id(folder: Path) -> str:
    path = folder / "manifest.parquet"
    metadata = (pq.read_schema(path).metadata or {}) if path.is_file() else {}
    return str(json.loads(metadata[b"emd"])["id"]) if b"emd" in metadata else ""


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an image has no repository
        return ""
