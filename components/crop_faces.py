"""Frames -> face crops."""

import zlib
from collections.abc import Hashable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.atomic import atomic_dir
from emd_core.boxes import Detection, choose_face, crop_square, cut
from emd_core.config import Config
from emd_core.crop_figures import perceptual_hash, sharpness
from emd_core.detectors import FaceDetector, make_detector
from emd_core.errors import UserError
from emd_core.limits import limit_bad_videos
from emd_core.manifest import FACES, FRAMES, OK, ORIGINAL, read_manifest, write_manifest
from emd_core.store import RowFiles
from emd_core.video import BrokenVideo, read_frames

Row = dict[Hashable, Any]
NO_FACE = "no_face"
NO_CROP: Row = {"file": "", "row": -1, "crc32": 0, "x": 0, "y": 0, "side": 0, "score": 0.0, "box_from": ""}
NO_CROP |= {"sharpness": 0.0, "phash": 0}


class CropFaces(Config):
    detector: Literal["mtcnn", "retinaface"] = Field(description="Face detector.")
    weights: Path | None = Field(description="RetinaFace's weight file; null downloads it. MTCNN brings its own.")
    size: int = Field(ge=32, le=1024, description="Side of a crop, px.")
    scale: float = Field(ge=1, le=3, description="Side of the square cut, in longer sides of the face box.")
    min_face: int = Field(ge=12, description="Shorter side of a face box below which it is ignored, px of the frame.")
    threshold: float = Field(gt=0, lt=1, description="The detector's confidence below which a face is ignored.")
    batch: int = Field(ge=1, description="Frames per call of the detector; matters on a GPU only.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of videos without any face that is tolerated.")


def crop_faces(cfg: CropFaces, *, frames: In, faces: Out) -> None:
    """Find one face per video and cut the same square from an original and from the fakes made from it.

    Writes one `<method>-<quality>.npy` of crops (N, size, size, 3) uint8 RGB per method and quality, and the FACES
    table; a frame without a face is a row with status "no_face".
    """
    listed = read_manifest(frames, FRAMES)
    detector = make_detector(cfg.detector, min_face=cfg.min_face, threshold=cfg.threshold, weights=cfg.weights)
    groups = listed.table.groupby(["quality", "target"], sort=False)
    rows: list[Row] = []
    with atomic_dir(faces) as work:
        with RowFiles(work, (cfg.size, cfg.size, 3)) as crops:
            for _, group in tqdm(groups, "videos"):
                rows += crop_group(cfg, group, frames, detector, crops)
        table = pd.DataFrame(rows)
        seen = table[table["status"].isin([OK, NO_FACE])].groupby("video", sort=False)["status"]
        faceless = {str(video): "no face in any of its frames" for video, status in seen if (status == NO_FACE).all()}
        limit_bad_videos("crop_faces", faceless, len(seen), cfg.max_bad_share)
        write_manifest(work, table, FACES, {"frames": listed})


def crop_group(cfg: CropFaces, group: pd.DataFrame, frames: Path, detector: FaceDetector, crops: RowFiles) -> list[Row]:
    """Crop an original and its fakes, all of one quality; the rows of FACES, in the order of `group`.

    The box of a fake's frame is the one found on its original: a detector that reacts to the manipulation would
    otherwise cut real and fake faces differently. Where the original has none, the fake's own frame is searched.
    """
    rows: list[Row] = []
    reference: dict[tuple[int, int, int], Detection] = {}  # (frame, width, height) -> the original's face
    original = ""
    for video, table in group.groupby("video", sort=False):
        rows += [{**row, **NO_CROP} for row in table[table["status"] != OK].to_dict("records")]
        shown: list[Row] = table[table["status"] == OK].to_dict("records")
        try:
            boxes = find_face(frames, shown, reference, detector, cfg.batch)
            if table["method"].iat[0] == ORIGINAL:
                original = str(video)
                reference = {_key(row): box for row, box in zip(shown, boxes, strict=True) if box}
            for row in crop_video(cfg, frames, shown, boxes, crops):
                found_on = original if _key(row) in reference else video
                rows.append({**row, "box_from": found_on if row["status"] == OK else ""})
        except BrokenVideo as broken:
            raise UserError(f"{frames} is damaged ({video}: {broken}); make it anew with extract_frames.") from None
    return rows


def crop_video(
    cfg: CropFaces, frames: Path, shown: list[Row], boxes: list[Detection | None], crops: RowFiles
) -> Iterator[Row]:
    """Cut the face out of each frame of one video; its rows, with `box_from` still open."""
    wanted = [row["row"] for row, box in zip(shown, boxes, strict=True) if box]
    images = read_frames(frames / shown[0]["file"], wanted) if wanted else iter(())
    for row, box in zip(shown, boxes, strict=True):
        if box is None:
            yield {**row, **NO_CROP, "status": NO_FACE, "reason": "no face found in this frame"}
            continue
        square = crop_square(box, row["width"], row["height"], cfg.scale)
        crop = cut(next(images), square, cfg.size)
        file = f"{row['method']}-{row['quality']}.npy"
        place: Row = {"file": file, "row": crops.append(file, crop), "crc32": zlib.crc32(crop.data)}
        place |= {"sharpness": sharpness(crop), "phash": perceptual_hash(crop)}
        yield {**row, **place, "x": square.x, "y": square.y, "side": square.side, "score": box.score}


def find_face(
    frames: Path,
    rows: list[Row],
    reference: Mapping[tuple[int, int, int], Detection],
    detector: FaceDetector,
    batch: int,
) -> list[Detection | None]:
    """The face of one video in each of its `rows`: the one in `reference`, or else the detector's."""
    detections = [[reference[_key(row)]] if _key(row) in reference else [] for row in rows]
    unknown = [i for i, row in enumerate(rows) if _key(row) not in reference]
    if unknown:
        images = read_frames(frames / rows[0]["file"], [rows[i]["row"] for i in unknown])
        numbers = iter(unknown)
        while images_BHWC := list(islice(images, batch)):
            for faces in detector.detect(images_BHWC):
                detections[next(numbers)] = faces
    return [reference.get(_key(row)) or face for row, face in zip(rows, choose_face(detections), strict=True)]


def _key(row: Row) -> tuple[int, int, int]:
    return row["frame"], row["width"], row["height"]
