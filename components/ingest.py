"""Folders of FaceForensics++ or DFDC -> table of videos."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.atomic import atomic_dir
from emd_core.config import Config
from emd_core.datasets import dfdc, faceforensics
from emd_core.limits import limit_bad_videos
from emd_core.manifest import OK, UNREADABLE, VIDEOS, write_manifest
from emd_core.video import BrokenVideo, check_opens

LAYOUTS = {"faceforensics": faceforensics.list_videos, "dfdc": dfdc.list_videos}


class Ingest(Config):
    dataset: Literal["faceforensics", "dfdc"] = Field(description="Whose folder layout the dataset has.")
    methods: list[str] = Field(
        min_length=1, description="Manipulations to take, by their FaceForensics++ names; [DFDC] for dfdc."
    )
    qualities: list[str] = Field(min_length=1, description="Compressions to take: c0, c23, c40; [released] for dfdc.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of missing or unreadable videos that is tolerated.")


def ingest(cfg: Ingest, *, dataset: In, videos: Out) -> None:
    """List the videos that the dataset's own files name and check that each opens.

    Writes the VIDEOS table. A video that is not there, or does not open, is a row with status "missing" or
    "unreadable" and the reason.
    """
    table = LAYOUTS[cfg.dataset](dataset, cfg.methods, cfg.qualities)
    problems = [
        _problem(dataset / path) if status == OK else ""
        for path, status in tqdm(zip(table["path"], table["status"], strict=True), "videos", len(table))
    ]
    for i, problem in enumerate(problems):
        if problem:
            table.loc[i, ["status", "reason"]] = [UNREADABLE, problem]
    bad = table[table["status"] != OK]
    limit_bad_videos("ingest", dict(zip(bad["video"], bad["reason"], strict=True)), len(table), cfg.max_bad_share)
    with atomic_dir(videos) as work:
        write_manifest(work, table, VIDEOS, {})


def _problem(path: Path) -> str:
    """Why the video cannot be used, "" where it opens; whether it is whole, extract_frames tells."""
    try:
        check_opens(path)
    except BrokenVideo as broken:
        return str(broken)
    return ""
