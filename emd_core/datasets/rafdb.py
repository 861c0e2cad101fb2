"""RAF-DB's basic set: aligned faces of seven expressions (contempt has none).

    <root>/EmoLabel/list_patition_label.txt    "train_00001.jpg 5" or "test_0001.jpg 4" per line
    <root>/Image/aligned/train_00001_aligned.jpg

It has no validation set; its test set is taken for it.
"""

from pathlib import Path

from emd_core.datasets.face import Face
from emd_core.datasets.rows import read_lines
from emd_core.errors import UserError
from emd_core.models.esr import EXPRESSIONS

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
        name, _, label = line.partition(" ")
        if label not in "1234567" or not label:
            raise UserError(f'{root / LIST}, line {number}: "{line}" is not like "train_00001.jpg 5"; restore it.')
        if name.startswith(PLACES[split]["prefix"]):
            path = root / "Image/aligned" / f"{Path(name).stem}_aligned.jpg"
            faces.append(Face(path, EXPRESSIONS.index(LABELS[int(label) - 1]), None))
    return faces
