"""Videos -> which of their frames are used."""

from functools import partial
from pathlib import Path

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.parallel import in_order
from emd_core.storage.atomic import atomic_dir
from emd_core.storage.growing import Row
from emd_core.storage.limits import limit_bad_videos
from emd_core.storage.manifest import FRAMES, OK, UNREADABLE, VIDEOS, read_manifest, write_manifest
from emd_core.video.decode import BrokenVideo, count_frames, pick_frames


class ExtractFrames(Config):
    train: int = Field(ge=1, description="Frames per video of the train split.")
    val: int = Field(ge=1, description="Frames per video of the val split.")
    test: int = Field(ge=1, description="Frames per video of the test split.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of the videos that ingest let pass which may be bad.")
    workers: int = Field(ge=1, description="Processes; each reads one group of videos at a time.")
    shard: str = Field(
        pattern=r"^[1-9]\d*/[1-9]\d*$",
        description="Which part of the videos: 2/8 is the second of eight, 1/1 is all. merge_shards joins the parts.",
    )


def extract_frames(cfg: ExtractFrames, *, dataset: In, videos: In, frames: Out) -> None:
    """Pick frames spread evenly over each video, and read every video to its end without decoding it.

    An original and the fakes that were made from it share the picked indices, so that boxes found on the original
    hold for the fakes and their difference means the manipulation; only a video with fewer frames than are wanted has
    its own. Writes the FRAMES table, one row per video; one that is empty, cut off or no video has status "unreadable"
    and the reason. Pixels are not stored: crop_faces decodes the picked frames, which costs less time than writing and
    reading them back, and no space.
    """
    listed = read_manifest(videos, VIDEOS)
    groups = choose_shard([group for _, group in listed.table.groupby(["quality", "target"], sort=False)], cfg.shard)
    n_frames = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
    pick = partial(pick_group, dataset=dataset, n_frames=n_frames)
    records: list[list[Row]] = [group.to_dict("records") for group in groups]
    rows: list[Row] = []
    with tqdm(desc="videos", total=sum(map(len, records)), unit="video") as progress:
        for picked in in_order(pick, records, cfg.workers):
            rows += picked
            progress.update(len(picked))
    tried = set(listed.table.loc[listed.table["status"] == OK, "video"])  # the others are ingest's to count
    tried &= {row["video"] for row in rows}
    bad = {row["video"]: row["reason"] for row in rows if row["status"] != OK and row["video"] in tried}
    limit_bad_videos("extract_frames", bad, len(tried), cfg.max_bad_share)
    with atomic_dir(frames) as work:
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


def pick_group(videos: list[Row], *, dataset: Path, n_frames: dict[str, int]) -> list[Row]:
    """The rows of FRAMES of an original and its fakes: the frames that all its readable videos have.

    A video that has fewer frames than are wanted gives all of them and leaves the others theirs.
    """
    rows = [_count(video, dataset) for video in videos]
    wanted = n_frames[videos[0]["split"]]
    shared = pick_frames(min((row["n_frames"] for row in rows if row["n_frames"] >= wanted), default=0), wanted)
    return [row | {"frames": shared if row["n_frames"] >= wanted else list(range(row["n_frames"]))} for row in rows]


def _count(video: Row, dataset: Path) -> Row:
    if video["status"] != OK:
        return video | {"n_frames": 0}
    try:
        return video | {"n_frames": count_frames(dataset / video["path"])}
    except BrokenVideo as broken:
        return video | {"n_frames": 0, "status": UNREADABLE, "reason": str(broken)}
