"""Crops -> masks of what was manipulated in them."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.config import Config, digest
from emd_core.errors import UserError
from emd_core.faces.boxes import Square
from emd_core.parallel import in_order
from emd_core.storage.arrays import open_rows
from emd_core.storage.atomic import resumable_dir
from emd_core.storage.growing import PARTS, GrowingTable, Grown, Row
from emd_core.storage.limits import limit_bad_videos
from emd_core.storage.manifest import FACES, MASKS, NO_MASK, OK, ORIGINAL, read_manifest, write_manifest
from emd_core.storage.masks import Mask, mask_from_difference, mask_from_patch, pack
from emd_core.video.decode import BrokenVideo, decode
from emd_core.video.rgb import RgbReader

Found = list[Mask | str]  # per crop its mask, or the reason why there is none


class GenerateMasks(Config):
    source: Literal["video", "difference", "none"] = Field(
        description="Where masks come from: the dataset's mask videos, or the difference between fake and original; "
        "none: they are unknown."
    )
    threshold: int = Field(ge=0, le=254, description="source video: grey level above which a mask pixel counts.")
    min_difference: int = Field(ge=0, le=254, description="source difference: grey levels above which pixels differ.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of fakes without any mask that is tolerated.")
    workers: int = Field(ge=1, description="Processes; each makes the masks of one group of videos at a time.")


def generate_masks(cfg: GenerateMasks, *, dataset: In, faces: In, masks: Out) -> None:
    """Make the mask of every crop, in the same square.

    Writes the MASKS table, row for row that of the faces, and per file of crops one of the same name with masks of
    one bit per pixel (N, size, ceil(size / 8)) uint8 (`emd_core.storage.masks.unpack`); an original's are all zero. A
    crop whose mask cannot be told gets status "no_mask" and a zero mask, so that crops and masks stay aligned.
    With source none every mask is zero and every `mask_share` NaN: unknown, which is no fault of a crop.
    A killed run goes on with the videos not yet done.
    """
    listed = read_manifest(faces, FACES)
    size = _crop_size(faces, listed.table)
    make = partial(mask_group, cfg=cfg, dataset=dataset, faces=faces, size=size)
    groups = [group for _, group in listed.table.groupby(["quality", "target"], sort=False)]
    key = digest([cfg.model_dump(mode="json", exclude={"workers", "max_bad_share"}), listed.id])
    with resumable_dir(masks, key, state=[PARTS]) as work:
        with GrowingTable(work, MASKS, (size, -(-size // 8))) as grown:
            done = grown.items
            with tqdm(desc="videos", total=listed.table["video"].nunique(), unit="video") as bar:
                bar.update(sum(group["video"].nunique() for group in groups[:done]))
                for group, masked in zip(groups[done:], in_order(make, groups[done:], cfg.workers), strict=True):
                    grown.add(masked)
                    bar.update(group["video"].nunique())
            table = grown.table()
        if not table[["file", "row"]].equals(listed.table[["file", "row"]]):
            raise UserError(f"{faces} is out of order; make it anew with crop_faces.")
        fakes = table[table["status"].isin([OK, NO_MASK]) & (table["label"] == 1)].groupby("video", sort=False)
        maskless = {str(video): str(f["reason"].iat[0]) for video, f in fakes if (f["status"] == NO_MASK).all()}
        limit_bad_videos("generate_masks", maskless, len(fakes), cfg.max_bad_share)
        write_manifest(work, table, MASKS, {"faces": listed})


def mask_group(group: pd.DataFrame, *, cfg: GenerateMasks, dataset: Path, faces: Path, size: int) -> Grown:
    """Mask the crops of an original and its fakes; the rows of MASKS, in the order of `group`."""
    rows: list[Row] = []
    packed: dict[str, list[NDArray[np.uint8]]] = {}
    known = cfg.source != "none"
    originals: dict[tuple[int, Square], Row] = {}
    for _, table in group.groupby("video", sort=False):
        crops: list[Row] = table[table["status"] == OK].to_dict("records")
        found: Found
        if table["method"].iat[0] == ORIGINAL or not known:
            originals = {(row["frame"], _square(row)): row for row in crops}
            found = [np.zeros((size, size), dtype=bool) for _ in crops]
        elif cfg.source == "video":
            found = from_video(crops, dataset, str(table["mask_path"].iat[0]), size, cfg.threshold)
        else:
            found = from_difference(crops, faces, originals, cfg.min_difference)
        masks = iter(found)
        for row in table.to_dict("records"):
            if row["status"] != OK:
                rows.append({**row, "mask_share": 0.0 if known else np.nan})
                continue
            mask = next(masks)
            if known and not isinstance(mask, str) and row["label"] == 1 and not mask.any():
                mask = "its mask is empty inside the crop"
            problem: Row = {"status": NO_MASK, "reason": mask} if isinstance(mask, str) else {}
            stored = np.zeros((size, size), dtype=bool) if isinstance(mask, str) else mask
            masked = packed.setdefault(row["file"], [])
            share = float(stored.mean()) if known else np.nan
            rows.append({**row, **problem, "row": len(masked), "mask_share": share})
            masked.append(pack(stored))
    return Grown(rows, {file: np.stack(masks) for file, masks in packed.items()})


def from_video(crops: list[Row], dataset: Path, mask_path: str, size: int, threshold: int) -> Found:
    """The masks of one fake's crops, from its mask video."""
    if not mask_path:
        return ["the dataset has no mask video for it"] * len(crops)
    found: Found = []
    reason = ""
    try:
        reader, room = RgbReader(), max((row["side"] for row in crops), default=0)
        for row, frame in zip(crops, decode(dataset / mask_path, [row["frame"] for row in crops]), strict=True):
            if (frame.width, frame.height) == (row["width"], row["height"]):
                patch = reader.part(frame, *_square(row), room)
                found.append(mask_from_patch(patch, size, threshold))
            else:
                found.append(f"its mask video has another frame size ({frame.width} x {frame.height})")
    except BrokenVideo as broken:
        reason = f"its mask video is broken: {broken}"
    return found + [reason] * (len(crops) - len(found))


def from_difference(
    crops: list[Row], faces: Path, originals: dict[tuple[int, Square], Row], min_difference: int
) -> Found:
    """The masks of one fake's crops, from the original's crops of the same frames and squares."""
    found: Found = []
    for row in crops:
        original = originals.get((row["frame"], _square(row)))
        if original is None:
            found.append("its original has no crop of the same frame and square")
            continue
        fake_hwc, original_hwc = (open_rows(faces / r["file"])[r["row"]] for r in (row, original))
        found.append(mask_from_difference(fake_hwc, original_hwc, min_difference))
    return found


def _square(row: Row) -> Square:
    return Square(row["x"], row["y"], row["side"])


def _crop_size(faces: Path, table: pd.DataFrame) -> int:
    files = table.loc[table["status"] == OK, "file"]
    if files.empty:
        raise UserError(f"{faces} holds no crop to mask; see the reasons in its table.")
    return int(open_rows(faces / files.iloc[0]).shape[1])
