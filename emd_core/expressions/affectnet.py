"""AffectNet in both layouts that it was released in.

Newer: {train_set,val_set}/images/<id>.jpg, faces already cut, and annotations/<id>_exp.npy.
Older: {training,validation}.csv with a face box and an expression for each image of Manually_Annotated_Images/.

The three categories that are no expression (8 none, 9 uncertain, 10 no face) are left out.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from emd_core.errors import UserError
from emd_core.expressions.face import Face
from emd_core.models.parts.esr import EXPRESSIONS
from emd_core.reading import reading
from emd_core.storage.listing import is_companion

PLACES = {
    "train": {"folder": "train_set", "table": "training.csv"},
    "val": {"folder": "val_set", "table": "validation.csv"},
}
IMAGES = "Manually_Annotated_Images"
EXPECTED = (
    "AffectNet, either {folder}/images/<id>.jpg and {folder}/annotations/<id>_exp.npy (newer layout), or {table} and "
    f"{IMAGES}/ (older layout)"
)
BOX = ["face_x", "face_y", "face_width", "face_height"]  # pixels; x counts columns, y rows


def list_faces(root: Path, split: str) -> list[Face]:
    """The faces of a split; none where the folder is not AffectNet's."""
    folder, table = PLACES[split]["folder"], PLACES[split]["table"]
    if (root / folder).is_dir():
        return _newer(root / folder)
    return _older(root, root / table) if (root / table).is_file() else []


def _newer(folder: Path) -> list[Face]:
    annotations = sorted(p for p in (folder / "annotations").glob("*_exp.npy") if not is_companion(p.name))
    labelled = [(path, _label(path)) for path in annotations]
    return [
        Face(folder / "images" / path.name.replace("_exp.npy", ".jpg"), label, None)
        for path, label in labelled
        if 0 <= label < len(EXPRESSIONS)
    ]


def _label(path: Path) -> int:
    with reading(path, "an annotation, one number in an .npy file", "restore it, or drop it and its image"):
        return int(np.load(path, allow_pickle=False).item())


def _older(root: Path, path: Path) -> list[Face]:
    remedy = "restore the table as AffectNet ships it, in UTF-8 with commas between the cells"
    with reading(path, "a CSV table", remedy):
        table = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True)
    absent = [name for name in ["subDirectory_filePath", *BOX, "expression"] if name not in table]
    if absent:
        raise UserError(f"{path} has no column '{absent[0]}'; {remedy}.")
    table = table[pd.to_numeric(table["expression"], errors="coerce").isin(range(len(EXPRESSIONS)))]
    # Rows without a face have no box, but those are no expression and are gone by now.
    boxes = table[BOX].apply(pd.to_numeric, errors="coerce")
    bad = table["subDirectory_filePath"][boxes.isna().any(axis=1)]
    if len(bad):
        raise UserError(f"{path}: {bad.iloc[0]} has no face box ({len(bad)} such); give it one or drop its row.")
    return [
        Face(root / IMAGES / str(file).strip(), int(label), (x, y, width, height))
        for file, label, (x, y, width, height) in zip(
            table["subDirectory_filePath"], table["expression"], boxes.astype(int).to_numpy().tolist(), strict=True
        )
    ]
