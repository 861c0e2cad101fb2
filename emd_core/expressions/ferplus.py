"""FER+ as its own script lays it out: 48 x 48 grey faces and ten people's votes on each.

    <root>/{FER2013Train,FER2013Valid}/label.csv    <image>.png, then the votes in the order of VOTES
    <root>/{FER2013Train,FER2013Valid}/<image>.png

As in its paper's majority mode: single votes do not count, and a face without an absolute majority is left out.
"""

import csv
from pathlib import Path

import numpy as np

from emd_core.errors import UserError
from emd_core.expressions.face import Face
from emd_core.models.parts.esr import EXPRESSIONS
from emd_core.storage.listing import read_lines

PLACES = {"train": {"folder": "FER2013Train"}, "val": {"folder": "FER2013Valid"}}
EXPECTED = "FER+ ({folder}/label.csv and its images)"
VOTES = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt", "unknown", "not a face")


def list_faces(root: Path, split: str) -> list[Face]:
    """The faces of a split; none where the folder is not FER+'s."""
    folder = root / PLACES[split]["folder"]
    path = folder / "label.csv"
    if not path.is_file():
        return []
    faces = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            (row,) = csv.reader([line])
            votes = np.array([float(v) for v in row[-len(VOTES) :]])  # older files have a box before them
            expression = majority(votes)
        except (ValueError, csv.Error):
            raise UserError(
                f"{path}, line {number}: not an image and {len(VOTES)} votes, set off by commas; restore the file."
            ) from None
        if expression in EXPRESSIONS:
            faces.append(Face(folder / row[0].strip(), EXPRESSIONS.index(expression), None))
    return faces


def majority(votes: np.ndarray) -> str:
    """What more than half of the votes say, single ones not counted; "unknown" if nothing does."""
    if len(votes) != len(VOTES):
        raise ValueError
    counted = np.where(votes > 1, votes, 0)
    return VOTES[int(counted.argmax())] if counted.max() > counted.sum() / 2 else "unknown"
