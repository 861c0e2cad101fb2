"""AffectNet in both layouts that it was released in; which one a folder has is found from its files.

Newer: {train_set,val_set}/images/<id>.jpg, faces already cut, and annotations/<id>_exp.npy.
Older: {training,validation}.csv with a face box and an expression for each image of Manually_Annotated_Images/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emd_core.errors import UserError
from emd_core.models.esr import EXPRESSIONS

FOLDERS = {"train": "train_set", "val": "val_set"}
TABLES = {"train": "training.csv", "val": "validation.csv"}
IMAGES = "Manually_Annotated_Images"
BOX = ["face_x", "face_y", "face_width", "face_height"]  # pixels; x counts columns, y rows


@dataclass(frozen=True)
class Face:
    """An image file, its expression's class id and where the face is: x, y, width, height; None = all of the image."""

    path: Path
    label: int
    box: tuple[int, int, int, int] | None


class AffectNet(Dataset[tuple[Tensor, int]]):
    """Faces (uint8 RGB 3 x size x size) with their expression's class id, 0 to 7 in the order of EXPRESSIONS.

    The three categories that are no expression (8 none, 9 uncertain, 10 no face) are left out.
    """

    def __init__(self, root: Path, split: str, size: int, augment: Callable[[Tensor], Tensor] | None = None) -> None:
        folder, table = FOLDERS[split], TABLES[split]
        if (root / folder).is_dir():
            self.faces = _newer(root / folder)
        elif (root / table).is_file():
            self.faces = _older(root, root / table)
        else:
            self.faces = []
        if not self.faces:
            raise UserError(
                f"{root} is not an AffectNet folder with faces in '{split}': it must hold either {folder}/images/"
                f"<id>.jpg and {folder}/annotations/<id>_exp.npy (newer layout), or {table} and {IMAGES}/ (older "
                "layout); point --expressions at such a folder."
            )
        missing = [face.path for face in self.faces if not face.path.is_file()]
        if missing:
            raise UserError(
                f"{missing[0]} is annotated but missing ({len(missing)} such); restore it or drop its annotation."
            )
        self.labels = np.array([face.label for face in self.faces])
        self.size, self.augment = size, augment

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        face = self.faces[index]
        image = cv2.imread(str(face.path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"{face.path} is not a readable image; restore it, or drop it and its annotation.")
        if face.box is not None:
            x, y, width, height = face.box
            image = image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
            if not image.size:
                raise UserError(f"{face.path}: the face box {face.box} lies outside the image; mend or drop its row.")
        shrinks = image.shape[0] > self.size
        image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        return (self.augment(tensor) if self.augment else tensor), face.label


def _newer(folder: Path) -> list[Face]:
    annotations = sorted((folder / "annotations").glob("*_exp.npy"))
    labelled = [(path, int(np.load(path, allow_pickle=False))) for path in annotations]
    return [
        Face(folder / "images" / path.name.replace("_exp.npy", ".jpg"), label, None)
        for path, label in labelled
        if 0 <= label < len(EXPRESSIONS)
    ]


def _older(root: Path, path: Path) -> list[Face]:
    table = pd.read_csv(path)
    absent = [name for name in ["subDirectory_filePath", *BOX, "expression"] if name not in table]
    if absent:
        raise UserError(f"{path} has no column '{absent[0]}'; restore the table as AffectNet ships it.")
    table = table[pd.to_numeric(table["expression"], errors="coerce").isin(range(len(EXPRESSIONS)))]
    # Rows without a face have no box, but those are no expression and are gone by now.
    boxes = table[BOX].apply(pd.to_numeric, errors="coerce")
    bad = table["subDirectory_filePath"][boxes.isna().any(axis=1)]
    if len(bad):
        raise UserError(f"{path}: {bad.iloc[0]} has no face box ({len(bad)} such); give it one or drop its row.")
    return [
        Face(root / IMAGES / file, int(label), (x, y, width, height))
        for file, label, (x, y, width, height) in zip(
            table["subDirectory_filePath"], table["expression"], boxes.astype(int).to_numpy().tolist(), strict=True
        )
    ]
