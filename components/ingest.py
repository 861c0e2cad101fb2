"""A data set's folder -> table of videos."""

import sys
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.config import Config
from emd_core.datasets import celebdf, deeperforensics, dfd, dfdc, dftimit, faceforensics, own_videos, uadfv
from emd_core.datasets.rows import strays
from emd_core.errors import UserError
from emd_core.parallel import in_order
from emd_core.storage.atomic import atomic_dir
from emd_core.storage.limits import limit_bad_videos
from emd_core.storage.manifest import OK, UNREADABLE, VIDEOS, require_inside, write_manifest
from emd_core.video.decode import BrokenVideo, check_opens

REMEDIES = {"dfdc": dfdc.WHERE, "own_videos": "give lines of videos.csv a split, or list more people"}
LAYOUTS = {
    "faceforensics": faceforensics.list_videos,
    "dfd": dfd.list_videos,
    "dfdc": dfdc.list_videos,
    "celebdf": celebdf.list_videos,
    "deeperforensics": deeperforensics.list_videos,
    "uadfv": uadfv.list_videos,
    "dftimit": dftimit.list_videos,
    "own_videos": own_videos.list_videos,
}


class Ingest(Config):
    dataset: Literal["faceforensics", "dfd", "dfdc", "celebdf", "deeperforensics", "uadfv", "dftimit", "own_videos"] = (
        Field(description="Whose folder layout the dataset has (docs/datasets.md).")
    )
    methods: list[str] = Field(min_length=1, description="Manipulations to take, by the dataset's names.")
    qualities: list[str] = Field(min_length=1, description="Compressions to take, by the dataset's names.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of missing or unreadable videos that is tolerated.")
    require_splits: list[Literal["train", "val", "test"]] = Field(
        description="Splits that must hold a usable video; of others that hold none a warning is given."
    )
    workers: int = Field(ge=1, description="Processes; each opens one video at a time.")


def ingest(cfg: Ingest, *, dataset: In, videos: Out) -> None:
    """List the videos that the dataset's own files name and check that each opens.

    Writes the VIDEOS table. A video that is not there, or does not open, is a row with status "missing" or
    "unreadable" and the reason. Videos that lie beside them and that nothing names are told of and left out.
    """
    table = LAYOUTS[cfg.dataset](dataset, cfg.methods, cfg.qualities)
    require_inside(table, dataset)
    found = table["status"] == OK
    check = in_order(partial(_problem, dataset), table.loc[found, "path"], cfg.workers)
    for row, problem in zip(table.index[found], tqdm(check, "videos", int(found.sum()), unit="video"), strict=True):
        if problem:
            table.loc[row, ["status", "reason"]] = [UNREADABLE, problem]
    unnamed = strays(dataset, table)
    if unnamed:
        more = ", …" if len(unnamed) > 3 else ""
        tqdm.write(
            f"warning: {len(unnamed)} videos are left out, as nothing names them: {', '.join(unnamed[:3])}{more}",
            file=sys.stderr,
        )
    tell_of_splits(cfg, table)
    bad = table[table["status"] != OK]
    limit_bad_videos("ingest", dict(zip(bad["video"], bad["reason"], strict=True)), len(table), cfg.max_bad_share)
    with atomic_dir(videos) as work:
        write_manifest(work, table, VIDEOS, {})


def tell_of_splits(cfg: Ingest, table: pd.DataFrame) -> None:
    """Say which splits are empty, before hours of cropping end in validate_data's refusal; a set for testing is whole.

    Raises:
        UserError: one of them is required.
    """
    held = set(table.loc[table["status"] == OK, "split"])
    absent = [split for split in ("train", "val", "test") if split not in held]
    named = f"no usable video is in {' and '.join(absent)}"
    remedy = REMEDIES.get(cfg.dataset, "mend the data set's lists")
    if set(absent) & set(cfg.require_splits):
        raise UserError(f"{named}, but ingest.require_splits is {cfg.require_splits}; {remedy}, or require fewer.")
    if absent and held != {"test"}:
        tqdm.write(f"warning: {named}, which validate_data and train_emd refuse; {remedy}.", file=sys.stderr)


def _problem(dataset: Path, path: str) -> str:
    """Why the video cannot be used, "" where it opens; whether it is whole, extract_frames tells."""
    try:
        check_opens(dataset / path)
    except BrokenVideo as broken:
        return str(broken)
    return ""
