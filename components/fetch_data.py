"""Bring the data of one revision onto the volume: from a DVC repository or a bucket, or check that they lie there.

Never a DVC stage: DVC itself brings the data where it runs. A folder that is there already is left as it is, so a
revision must be a name whose data never change: a commit, a tag, a date.
"""

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

from pydantic import Field

from components import Out
from components.tracking.address import HIDDEN, address, encoded, hide
from components.tracking.run import stage_run
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.storage.atomic import atomic_dir

VOLUME = "volume"
BUCKETS = ("s3://", "gs://")


class FetchData(Config):
    source: str = Field(
        min_length=1,
        description="volume: the data lie on the volume already; s3://… or gs://…: a bucket; else a DVC repository's "
        "URL or folder.",
    )
    revision: str = Field(min_length=1, description="Git revision of the DVC repository, or any name of these data.")
    dataset: str = Field(min_length=1, description="Path of the videos in the source.")
    expressions: str = Field(min_length=1, description="Path of the expression faces in the source.")


def fetch_data(cfg: FetchData, *, dataset: Out, expressions: Out) -> None:
    """dataset, expressions: folders on the volume, each written whole or not at all."""
    with stage_run("fetch_data", cfg, {}):  # so that a model's lineage ends with the source and revision of its data
        for path, folder in ((cfg.dataset, dataset), (cfg.expressions, expressions)):
            bring(cfg, path, folder)


def bring(cfg: FetchData, path: str, folder: Path) -> None:
    """Fill `folder` with what lies at `path` of the source, unless it is there already."""
    if folder.exists():
        print(f"{folder} is there already")
    elif cfg.source == VOLUME:
        raise UserError(f"{folder} does not exist on the volume; put the data there, or set fetch_data.source.")
    else:
        with atomic_dir(folder) as work:
            get = from_bucket if cfg.source.startswith(BUCKETS) else from_dvc
            get(cfg, path, work / "data")
            for entry in (work / "data").iterdir():
                entry.rename(work / entry.name)
            (work / "data").rmdir()
        print(f"{folder}: {path} of {address(cfg.source)}, {cfg.revision}")


def from_bucket(cfg: FetchData, path: str, out: Path) -> None:
    """Copy a folder of a bucket; credentials come from the environment as its own tools read them."""
    import fsspec
    from fsspec.callbacks import TqdmCallback

    filesystem, root = fsspec.core.url_to_fs(cfg.source)
    place = f"{root.rstrip('/')}/{path}"
    if not filesystem.exists(place):
        raise UserError(f"{address(cfg.source)} has no {path}; correct fetch_data.source or the path.")
    filesystem.get(place, str(out), recursive=True, callback=TqdmCallback(tqdm_kwargs={"desc": path}))


def from_dvc(cfg: FetchData, path: str, out: Path) -> None:
    """`dvc get`; GIT_TOKEN, if set, opens a private repository that is reached by https."""
    token = os.environ.get("GIT_TOKEN", "")
    url = encoded(cfg.source) if "://" in cfg.source else cfg.source
    if token and url.startswith("https://"):
        url = url.replace("https://", f"https://x-access-token:{quote(token, safe='')}@", 1)
    command = ["dvc", "get", url, path, "--rev", cfg.revision, "--out", str(out)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = hide(done.stderr.replace(token, HIDDEN) if token else done.stderr, url)
        raise UserError(f"dvc get {address(cfg.source)} {path} at {cfg.revision} failed ({said}); correct fetch_data.")
