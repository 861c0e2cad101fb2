"""AffectNet in its newer layout: {train_set,val_set}/images/<id>.jpg and annotations/<id>_exp.npy."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emd_core.errors import UserError
from emd_core.models.esr import EXPRESSIONS

FOLDERS = {"train": "train_set", "val": "val_set"}


class AffectNet(Dataset[tuple[Tensor, int]]):
    """Faces (uint8 RGB 3 x size x size) with their expression's class id, 0 to 7 in the order of EXPRESSIONS.

    The three categories that are no expression (8 none, 9 uncertain, 10 no face) are left out.
    """

    def __init__(self, root: Path, split: str, size: int, augment: Callable[[Tensor], Tensor] | None = None) -> None:
        folder = root / FOLDERS[split]
        annotations = sorted((folder / "annotations").glob("*_exp.npy"))
        if not annotations:
            raise UserError(
                f"{folder} is not an AffectNet folder: it must hold images/<id>.jpg and annotations/<id>_exp.npy; "
                "point --expressions at the folder that holds train_set and val_set."
            )
        labelled = [(path, int(np.load(path, allow_pickle=False))) for path in annotations]
        self.items = [
            (folder / "images" / path.name.replace("_exp.npy", ".jpg"), label)
            for path, label in labelled
            if 0 <= label < len(EXPRESSIONS)
        ]
        missing = [image for image, _ in self.items if not image.is_file()]
        if missing:
            raise UserError(f"{missing[0]} is annotated but missing ({len(missing)} such); restore or drop the pair.")
        self.size, self.augment = size, augment

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"{path} is not a readable image; restore it, or drop it and its annotation.")
        shrinks = image.shape[0] > self.size
        image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        return (self.augment(tensor) if self.augment else tensor), label
