"""Videos and picked frames -> face crops."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.config import digest
from emd_core.faces.cropping import Cropping, crop_group
from emd_core.faces.detectors import FaceDetector, make_detector
from emd_core.parallel import in_order
from emd_core.storage.atomic import resumable_dir
from emd_core.storage.growing import PARTS, GrowingTable, Grown, Row
from emd_core.storage.limits import limit_bad_videos
from emd_core.storage.manifest import FACES, FRAMES, NO_FACE, OK, read_manifest, write_manifest


class CropFaces(Cropping):
    detector: Literal["mtcnn", "retinaface"] = Field(description="Face detector.")
    weights: Path | None = Field(
        description="The detector's weight file; null: the published one (RetinaFace's is downloaded, MTCNN's is "
        "installed)."
    )
    threshold: float = Field(gt=0, lt=1, description="The detector's confidence below which a face is ignored.")
    max_bad_share: float = Field(
        ge=0, le=1, description="Share of the videos with picked frames that may have no face or be undecodable."
    )
    workers: int = Field(ge=1, description="Processes; each crops one group of videos at a time on one core.")


def crop_faces(cfg: CropFaces, *, dataset: In, frames: In, faces: Out) -> None:
    """Decode the picked frames, find one face per video, and cut the same square from an original and its fakes.

    Writes one `<method>-<quality>.npy` of crops (N, size, size, 3) uint8 RGB per method and quality, and the FACES
    table; a frame without a face is a row with status "no_face". A killed run goes on with the videos not yet done.
    """
    listed = read_manifest(frames, FRAMES)
    crop = partial(crop_on_worker, dataset=dataset, cfg=cfg)
    groups = [group for _, group in listed.table.groupby(["quality", "target"], sort=False)]
    key = digest([cfg.model_dump(mode="json", exclude={"workers", "batch", "max_bad_share"}), listed.id])
    with resumable_dir(faces, key, state=[PARTS]) as work:
        with GrowingTable(work, FACES, (cfg.size, cfg.size, 3)) as grown:
            done = grown.items
            records = (group.to_dict("records") for group in groups[done:])
            with tqdm(desc="videos", total=len(listed.table), unit="video") as bar:
                bar.update(sum(map(len, groups[:done])))
                for group, cropped in zip(groups[done:], in_order(crop, records, cfg.workers), strict=True):
                    grown.add(cropped)
                    bar.update(len(group))
            table = grown.table()
        tried = set(listed.table.loc[listed.table["status"] == OK, "video"])  # others were counted where they failed
        limit_bad_videos("crop_faces", faceless(table[table["video"].isin(tried)]), len(tried), cfg.max_bad_share)
        write_manifest(work, table, FACES, {"frames": listed})


def crop_on_worker(videos: list[Row], *, dataset: Path, cfg: CropFaces) -> Grown:
    return crop_group(videos, dataset=dataset, detector=_detector(cfg), cfg=cfg)


@lru_cache(maxsize=1)  # one per process
def _detector(cfg: CropFaces) -> FaceDetector:
    return make_detector(cfg.detector, threshold=cfg.threshold, weights=cfg.weights)


def faceless(tried: pd.DataFrame) -> dict[str, str]:
    """Video -> reason of those that gave no crop."""
    reasons = {}
    for video, rows in tried.groupby("video", sort=False):
        if (rows["status"] == NO_FACE).all():
            reasons[str(video)] = "no face in any of its frames"
        elif not (rows["status"] == OK).any():
            reasons[str(video)] = str(rows["reason"].iat[0])
    return reasons
