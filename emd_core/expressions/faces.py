"""Labelled faces to train the expression network on; whose layout a folder has is found from its files."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from emd_core.errors import UserError
from emd_core.expressions import affectnet, ferplus, rafdb
from emd_core.storage.listing import Files
from emd_core.storage.pictures import read_picture

LAYOUTS = (affectnet, ferplus, rafdb)


class ExpressionFaces(Dataset[tuple[Tensor, int]]):
    """Faces (uint8 RGB 3 x size x size) with their expression's class id, 0 to 7 in the order of EXPRESSIONS.

    What is no expression (none, uncertain, no face, no majority) is left out.
    """

    def __init__(self, root: Path, split: str, size: int, augment: Callable[[Tensor], Tensor] | None = None) -> None:
        """split: train or val."""
        found = [faces for layout in LAYOUTS if (faces := layout.list_faces(root, split))]
        if len(found) > 1:
            raise UserError(
                f"{root} holds {len(found)} sets of expression faces; --expressions must be a folder of one."
            )
        if not found:
            expected = "; ".join(layout.EXPECTED.format(**layout.PLACES[split]) for layout in LAYOUTS)
            raise UserError(
                f"{root} holds no expression faces in '{split}'; --expressions must be a folder of {expected}."
            )
        files = Files(root)
        written = [files.find(os.path.relpath(face.path, root)) for face in found[0]]
        missing = [face.path for face, path in zip(found[0], written, strict=True) if path is None]
        if missing:
            raise UserError(
                f"{missing[0]} is annotated but missing ({len(missing)} such); restore it or drop its annotation."
            )
        self.faces = [replace(face, path=root / str(path)) for face, path in zip(found[0], written, strict=True)]
        self.labels = np.array([face.label for face in self.faces])
        self.size, self.augment = size, augment

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        face = self.faces[index]
        image: NDArray[Any] = read_picture(face.path)
        if face.box is not None:
            x, y, width, height = face.box
            image = image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
            if not image.size:
                raise UserError(f"{face.path}: the face box {face.box} lies outside the image; mend or drop its row.")
        shrinks = image.shape[0] > self.size
        image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        return (self.augment(tensor) if self.augment else tensor), face.label
