"""Crops -> masks of what was manipulated in them."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from components import In, Out
from emd_core.atomic import atomic_dir
from emd_core.boxes import Square
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.limits import limit_bad_videos
from emd_core.manifest import FACES, MASKS, OK, ORIGINAL, read_manifest, write_manifest
from emd_core.masks import Mask, mask_from_difference, mask_from_frame, pack
from emd_core.store import RowFiles, open_rows
from emd_core.video import BrokenVideo, read_frames

Row = dict[Hashable, Any]
NO_MASK = "no_mask"
Found = list[Mask | str]  # per crop its mask, or the reason why there is none


class GenerateMasks(Config):
    source: Literal["video", "difference", "none"] = Field(
        description="Where masks come from: the dataset's mask videos, or the difference between fake and original; "
        "none: they are unknown."
    )
    threshold: int = Field(ge=0, le=254, description="source video: grey level above which a mask pixel counts.")
    min_difference: int = Field(ge=0, le=254, description="source difference: grey levels above which pixels differ.")
    max_bad_share: float = Field(ge=0, le=1, description="Share of fakes without any mask that is tolerated.")


def generate_masks(cfg: GenerateMasks, *, dataset: In, faces: In, masks: Out) -> None:
    """Make the mask of every crop, in the same square.

    Writes the MASKS table, row for row that of the faces, and per file of crops one of the same name with masks of
    one bit per pixel (N, size, ceil(size / 8)) uint8 (`emd_core.masks.unpack`); an original's are all zero. A crop
    whose mask cannot be told gets status "no_mask" and a zero mask, so that crops and masks stay aligned.
    With source none every mask is zero and every `mask_share` NaN: unknown, which is no fault of a crop.
    """
    listed = read_manifest(faces, FACES)
    size = _crop_size(faces, listed.table)
    rows: list[Row] = []
    with atomic_dir(masks) as work:
        with RowFiles(work, (size, -(-size // 8))) as packed:
            for _, group in tqdm(listed.table.groupby(["quality", "target"], sort=False), "videos"):
                rows += mask_group(cfg, group, dataset, faces, size, packed)
        table = pd.DataFrame(rows)
        fakes = table[table["status"].isin([OK, NO_MASK]) & (table["label"] == 1)].groupby("video", sort=False)
        maskless = {str(video): str(f["reason"].iat[0]) for video, f in fakes if (f["status"] == NO_MASK).all()}
        limit_bad_videos("generate_masks", maskless, len(fakes), cfg.max_bad_share)
        write_manifest(work, table, MASKS, {"faces": listed})


def mask_group(
    cfg: GenerateMasks, group: pd.DataFrame, dataset: Path, faces: Path, size: int, packed: RowFiles
) -> list[Row]:
    """Mask the crops of an original and its fakes; the rows of MASKS, in the order of `group`."""
    rows: list[Row] = []
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
            if packed.append(row["file"], pack(stored)) != row["row"]:
                raise UserError(f"{faces} is out of order at {row['video']}; make it anew with crop_faces.")
            rows.append({**row, **problem, "mask_share": float(stored.mean()) if known else np.nan})
    return rows


def from_video(crops: list[Row], dataset: Path, mask_path: str, size: int, threshold: int) -> Found:
    """The masks of one fake's crops, from its mask video."""
    if not mask_path:
        return ["the dataset has no mask video for it"] * len(crops)
    found: Found = []
    reason = ""
    try:
        for row, frame in zip(crops, read_frames(dataset / mask_path, [row["frame"] for row in crops]), strict=True):
            if frame.shape[:2] == (row["height"], row["width"]):
                found.append(mask_from_frame(frame, _square(row), size, threshold))
            else:
                found.append(f"its mask video has another frame size ({frame.shape[1]} x {frame.shape[0]})")
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
