"""RAF-DB's basic set: aligned faces of seven expressions (contempt has none).

    <root>/EmoLabel/list_patition_label.txt    "train_00001.jpg 5" or "test_0001.jpg 4" per line
    <root>/Image/aligned/train_00001_aligned.jpg

It has no validation set; its test set is taken for it.
"""

import re
from pathlib import Path

from emd_core.errors import UserError
from emd_core.expressions.face import Face
from emd_core.models.parts.esr import EXPRESSIONS
from emd_core.storage.listing import read_lines

PLACES = {"train": {"prefix": "train_"}, "val": {"prefix": "test_"}}
LIST = "EmoLabel/list_patition_label.txt"
EXPECTED = f"RAF-DB ({LIST} with {{prefix}}… and Image/aligned/)"
LABELS = ("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral")  # 1 to 7


def list_faces(root: Path, split: str) -> list[Face]:
    """The faces of a split; none where the folder is not RAF-DB's."""
    if not (root / LIST).is_file():
        return []
    faces = []
    for number, line in enumerate(read_lines(root / LIST), start=1):
        found = re.fullmatch(r"((?:train|test)_\d+)\.jpg\s+([1-7])", line)
        if not found:
            raise UserError(f'{root / LIST}, line {number}: "{line}" is not like "train_00001.jpg 5"; restore it.')
        name, label = found[1], LABELS[int(found[2]) - 1]
        if name.startswith(PLACES[split]["prefix"]):
            faces.append(Face(root / "Image/aligned" / f"{name}_aligned.jpg", EXPRESSIONS.index(label), None))
    return faces
