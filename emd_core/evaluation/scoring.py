"""Scoring of a split: one row per frame, pixel counts included, from which every metric follows."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from emd_core.detection.crops import Batch, FaceCrops
from emd_core.detection.inference import predict
from emd_core.detection.metrics import COUNTS, THRESHOLD, confusion, roc
from emd_core.detection.perturbations import PERTURBATIONS
from emd_core.evaluation.pixel_scores import PixelScores, pixel_roc
from emd_core.evaluation.slices import has_masks, slice_rows, slices
from emd_core.models.detector import Detector
from emd_core.models.parts.precision import Precision

COLUMNS = ["video", "frame", "method", "quality", "label", "target", "source", "mask_share"]
Pixels = dict[tuple[str, str], PixelScores]  # by method and quality


def score_conditions(
    model: Detector, crops: FaceCrops, batch_size: int, precision: Precision, perturbations: Iterable[str]
) -> tuple[pd.DataFrame, Pixels]:
    """The crops as they are, then under each perturbation; there a quality is named like "c23/jpeg_q30"."""
    tables: list[pd.DataFrame] = []
    everything: Pixels = defaultdict(PixelScores)
    for name in (None, *perturbations):
        frames, pixels = score_frames(model, crops, batch_size, precision, name)
        suffix = "" if name is None else f"/{name}"
        tables.append(frames.assign(quality=frames["quality"] + suffix))
        everything |= {(method, quality + suffix): scores for (method, quality), scores in pixels.items()}
    return pd.concat(tables, ignore_index=True), everything


def score_frames(
    model: Detector, crops: FaceCrops, batch_size: int, precision: Precision, perturbation: str | None = None
) -> tuple[pd.DataFrame, Pixels]:
    """The crops' table with `score` and the pixel counts of COUNTS; the pixels' scores.

    Crops of unknown mask (NaN in mask_share), and all crops where the model does not localise, have counts of 0 and no
    pixels. `perturbation` is a name in PERTURBATIONS: what is done to the crops first.
    """
    pixels: Pixels = defaultdict(PixelScores)
    score, counts = np.empty(len(crops)), np.zeros((len(crops), len(COUNTS)), np.int64)
    known = crops.table["mask_share"].notna().to_numpy()
    progress = tqdm(total=len(crops), desc=f"evaluate {perturbation or ''}".strip(), unit="crop")
    for batch in _batches(crops, batch_size, perturbation):
        score[batch.index], mask_score = predict(model, batch.image, precision)
        progress.update(len(batch.index))
        if mask_score is None:
            continue
        truth = batch.mask.squeeze(1).numpy()
        counts[batch.index] = confusion(mask_score > THRESHOLD, truth) * known[batch.index, None]
        rows = crops.table.iloc[batch.index]
        for method, quality in set(zip(rows["method"], rows["quality"], strict=True)):
            same = ((rows["method"] == method) & (rows["quality"] == quality)).to_numpy() & known[batch.index]
            pixels[method, quality].add(mask_score[same], truth[same])
    progress.close()
    frames = crops.table[COLUMNS].assign(score=score)
    frames[COUNTS] = counts
    return frames, pixels


def _batches(crops: FaceCrops, batch_size: int, perturbation: str | None) -> Iterator[Batch]:
    """All crops; to perturb them, video by video, as a codec needs the whole clip."""
    if perturbation is None:
        yield from crops.batches(np.arange(len(crops)), batch_size)
        return
    table = crops.table.sort_values("frame")
    for rows in table.groupby("video").groups.values():
        clip = crops.read(rows.to_numpy())
        changed = PERTURBATIONS[perturbation](clip.image.permute(0, 2, 3, 1).numpy())
        image = torch.from_numpy(changed).permute(0, 3, 1, 2)
        for start in range(0, len(rows), batch_size):
            part = slice(start, start + batch_size)
            yield Batch(image[part], clip.mask[part], clip.label[part], clip.known[part], clip.index[part])


def roc_table(frames: pd.DataFrame, pixels: Pixels, original: str, points: int = 200) -> pd.DataFrame:
    """ROC curves of classification (per frame) and localisation (per pixel) of every slice, thinned for plotting.

    A slice without originals has no "frame" curve, one whose fakes' masks are unknown no "pixel" curve.
    """
    tables = [pd.DataFrame({"slice": [], "task": [], "fpr": [], "tpr": []})]
    grid = np.linspace(0, 1, points)
    for method, quality in slices(frames):
        rows = slice_rows(frames, method, quality)
        curves = {}
        if rows["label"].nunique() == 2:
            curves["frame"] = roc(rows["label"].to_numpy(), rows["score"].to_numpy())
        if has_masks(rows):
            curves["pixel"] = pixel_roc([pixels[method, quality], pixels[original, quality]])
        for task, (fpr, tpr) in curves.items():
            values = {"slice": f"{method}/{quality}", "task": task, "fpr": grid, "tpr": np.interp(grid, fpr, tpr)}
            tables.append(pd.DataFrame(values))
    return pd.concat(tables, ignore_index=True)
