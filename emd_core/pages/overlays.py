"""What a network finds in a few crops beside the truth: left what was manipulated, right what it takes for it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emd_core.detection.crops import FaceCrops
from emd_core.detection.inference import predict
from emd_core.detection.metrics import THRESHOLD
from emd_core.models.detector import Detector
from emd_core.models.parts.precision import Precision
from emd_core.pages.contact_sheet import TILE, Tile, contact_sheet, overlay

Picture = NDArray[np.uint8]  # HWC RGB


def one_of_each(table: pd.DataFrame, most: int = 8) -> dict[str, int]:
    """ "method quality" -> row number of one fake of it, the same whenever the table is the same."""
    fakes = table[table["label"] == 1]
    groups = fakes.groupby(fakes["method"] + " " + fakes["quality"]).groups
    return {str(name): int(rows[len(rows) // 2]) for name, rows in list(groups.items())[:most]}


def overlays(model: Detector, crops: FaceCrops, rows: dict[str, int], precision: Precision) -> dict[str, Picture]:
    """A picture of each row of the crops, under its name; `model` is in eval mode."""
    batch = crops.read(np.array(list(rows.values())))
    score, mask_score = predict(model, batch.image, precision)
    pictures = {}
    for i, (name, row) in enumerate(rows.items()):
        entry, crop = crops.table.loc[row], batch.image[i].permute(1, 2, 0).numpy()
        truth = batch.mask[i, 0].numpy() if batch.known[i] else None
        tiles = [
            Tile(crop, truth, [f"{entry['video']} #{entry['frame']}"]),
            Tile(crop, None if mask_score is None else mask_score[i] > THRESHOLD, [f"score {score[i]:.2f}"]),
        ]
        pictures[name] = contact_sheet(tiles, columns=2)
    return pictures


def worst_frames(
    model: Detector, crops: FaceCrops, frames: pd.DataFrame, precision: Precision, count: int = 24
) -> pd.DataFrame:
    """The frames judged most wrongly, the worst first, at most `count`; none that was judged rightly.

    frames: as score_frames returns them for the crops. Columns truth and found are pictures with the masks drawn in;
    they come first, as MLflow's page shows four columns without scrolling. A model that does not localise has no found.
    """
    error = (frames["score"] - frames["label"]).abs()
    rows = error[error > THRESHOLD].sort_values(ascending=False, kind="stable").index[:count].to_numpy()
    table = frames.loc[rows, ["score", "label", "method", "quality", "video", "frame"]].reset_index(drop=True)
    if not len(rows):
        return table
    batch = crops.read(rows)
    _, mask_score = predict(model, batch.image, precision)
    images = batch.image.permute(0, 2, 3, 1).numpy()
    truth = [mask if known else None for mask, known in zip(batch.mask[:, 0].numpy(), batch.known, strict=True)]
    masks = {"truth": truth} | ({} if mask_score is None else {"found": list(mask_score > THRESHOLD)})
    for place, (name, drawn) in enumerate(masks.items()):
        pictures = [overlay(*pair, TILE) for pair in zip(images, drawn, strict=True)]
        table.insert(place, name, pd.Series(pictures, dtype=object))
    return table
