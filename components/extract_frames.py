"""Videos -> picked frames, stored without loss."""

import zlib
from collections.abc import Hashable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.atomic import atomic_dir
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.limits import limit_bad_videos
from emd_core.manifest import FRAMES, OK, VIDEOS, read_manifest, write_manifest
from emd_core.video import BrokenVideo, count_frames, decode, pick_frames, to_rgb, write_frames

Row = dict[Hashable, Any]
NO_FRAME: Row = {"frame": -1, "file": "", "row": -1, "width": 0, "height": 0, "crc32": 0}


class ExtractFrames(Config):
    train: int = Field(ge=1, description="Frames per video of the train split.")
    val: int = Field(ge=1, description="Frames per video of the val split.")
    test: int = Field(ge=1, description="Frames per video of the test split.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of unusable videos that is tolerated.")
    workers: int = Field(ge=1, description="Processes; each decodes one group of videos at a time on one core.")
    shard: str = Field(
        pattern=r"^[1-9]\d*/[1-9]\d*$",
        description="Which part of the videos: 2/8 is the second of eight, 1/1 is all. merge_shards joins the parts.",
    )


def extract_frames(cfg: ExtractFrames, *, dataset: In, videos: In, frames: Out) -> None:
    """Pick frames spread evenly over each video and store them bit for bit.

    An original and the fakes that were made from it share the picked indices, so that boxes found on the original
    hold for the fakes and their difference means the manipulation. Writes one FFV1 file per video and the FRAMES
    table; a video that cannot be decoded is one row with status "unreadable", frame -1 and the reason.
    """
    listed = read_manifest(videos, VIDEOS)
    groups = choose_shard([group for _, group in listed.table.groupby(["quality", "target"], sort=False)], cfg.shard)
    n_frames = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
    with atomic_dir(frames) as work:
        records = [group.to_dict("records") for group in groups]
        extract = partial(extract_group, dataset=dataset, out=work, n_frames=n_frames)
        rows = [row for group in tqdm(_run(extract, records, cfg.workers), "videos", len(groups)) for row in group]
        bad = {row["video"]: row["reason"] for row in rows if row["status"] != OK}
        limit_bad_videos("extract_frames", bad, sum(map(len, groups)), cfg.max_bad_share)
        write_manifest(work, pd.DataFrame(rows), FRAMES, {"videos": listed})


def choose_shard(groups: list[pd.DataFrame], shard: str) -> list[pd.DataFrame]:
    """Every n-th group, from the k-th on, for the shard "k/n"; an original is never parted from its fakes."""
    number, shards = map(int, shard.split("/"))
    if not number <= shards <= len(groups):
        raise UserError(
            f"extract_frames.shard is {shard}, but there are {len(groups)} groups of an original and its fakes; the "
            "first number must not exceed the second, nor that the groups."
        )
    return groups[number - 1 :: shards]


def extract_group(videos: list[Row], *, dataset: Path, out: Path, n_frames: dict[str, int]) -> list[Row]:
    """Store the picked frames of an original and its fakes; the rows of FRAMES, in the order of `videos`."""
    lengths: dict[str, int] = {}
    broken: dict[str, Row] = {v["video"]: {} for v in videos if v["status"] != OK}
    for video in videos:
        if video["video"] not in broken:
            try:
                lengths[video["video"]] = count_frames(dataset / video["path"])
            except (BrokenVideo, FileNotFoundError) as error:
                broken[video["video"]] = _unreadable(error)
    picked = pick_frames(min(lengths.values(), default=0), n_frames[videos[0]["split"]])
    rows: list[Row] = []
    for video in videos:
        if video["video"] not in broken:
            try:
                rows += _store(video, dataset / video["path"], out, picked)
                continue
            except BrokenVideo as error:
                broken[video["video"]] = _unreadable(error)
        rows.append({**video, **NO_FRAME, **broken[video["video"]]})
    return rows


def _store(video: Row, source: Path, out: Path, picked: list[int]) -> list[Row]:
    file = video["video"].replace("/", "-") + ".mkv"
    rows: list[Row] = []

    def decoded() -> Iterator[av.VideoFrame]:
        for row, (index, frame) in enumerate(zip(picked, decode(source, picked), strict=True)):
            place: Row = {"frame": index, "file": file, "row": row, "width": frame.width, "height": frame.height}
            rows.append({**video, **place, "crc32": zlib.crc32(to_rgb(frame).data)})
            yield frame

    try:
        write_frames(out / file, decoded())
    except BrokenVideo:
        (out / file).unlink(missing_ok=True)
        raise
    return rows


def _unreadable(error: Exception) -> Row:
    return {"status": "unreadable", "reason": str(error)}


def _run(extract: Any, groups: list[list[Row]], workers: int) -> Iterator[list[Row]]:
    """The results in the order of `groups`, whatever the number of processes."""
    if workers == 1:
        yield from map(extract, groups)
        return
    # Spawned, not forked: a fork copies the locks that threads of the parent hold.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(extract, groups)
