"""AffectNet's two layouts, and what is wrong with a folder that has neither."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from emd_core.datasets.affectnet import IMAGES, AffectNet
from emd_core.errors import UserError
from tests.fer_data import FER, train, write_newer


@pytest.fixture
def expressions(tmp_path: Path) -> Path:
    return write_newer(tmp_path / "affectnet")


ROWS = [  # file, x, y, width, height, expression
    ("1/a.png", 10, 30, 40, 20, 3),
    ("2/a.png", -10, 60, 50, 100, 0),
    ("1/b.png", 0, 0, 5, 5, 8),
    ("1/c.png", 0, 0, 5, 5, 9),
    ("1/d.png", "NULL", "NULL", "NULL", "NULL", 10),
]


def write_older(root: Path, rows: list[tuple[Any, ...]] = ROWS, names: tuple[str, ...] = ("training",)) -> Path:
    """Images of 100 columns and 80 rows, red counts columns and green rows."""
    image = np.zeros((80, 100, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(100)[None], np.arange(80)[:, None]
    for file, *_ in rows:
        path = root / IMAGES / file
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    columns = ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression"]
    table = pd.DataFrame(rows, columns=columns).assign(facial_landmarks="1;2", valence=0.1, arousal=-0.1)
    for name in names:
        table.to_csv(root / f"{name}.csv", index=False)
    return root


def test_the_older_layout_is_cut_with_its_boxes(tmp_path: Path) -> None:
    faces = AffectNet(write_older(tmp_path), "train", 54)
    assert faces.labels.tolist() == [3, 0]
    for index, (columns, rows) in enumerate([((10, 49), (30, 49)), ((0, 39), (60, 79))]):
        image, label = faces[index]
        assert image.shape == (3, 54, 54)
        assert label == (3, 0)[index]
        assert (int(image[0].min()), int(image[0].max())) == columns
        assert (int(image[1].min()), int(image[1].max())) == rows


def test_the_newer_layout_leaves_out_what_is_no_expression(expressions: Path) -> None:
    faces = AffectNet(expressions, "train", 54)
    assert faces.labels.tolist() == [k for k in range(8) for _ in range(4)]
    image, label = faces[31]
    assert label == 7
    assert abs(float(image.float().mean()) - 210) < 3


def _drop(root: Path) -> None:
    (root / IMAGES / "2/a.png").unlink()


def _rewrite(change: Any) -> Any:
    def apply(root: Path) -> None:
        change(pd.read_csv(root / "training.csv")).to_csv(root / "training.csv", index=False)

    return apply


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (_drop, r"2/a\.png is annotated but missing \(1 such\)"),
        (_rewrite(lambda t: t.drop(columns="face_y")), r"training\.csv has no column 'face_y'"),
        (_rewrite(lambda t: t.assign(face_width=["x", 5, 5, 5, 5])), r"1/a\.png has no face box \(1 such\)"),
        (_rewrite(lambda t: t.assign(face_x=200)), "the face box .* lies outside the image"),
        (_rewrite(lambda t: t.assign(expression=9)), "not an AffectNet folder with faces in 'train'"),
        (lambda root: (root / IMAGES / "1/a.png").write_text("no"), "is not a readable image"),
    ],
    ids=["image missing", "no column", "no box", "box outside", "no expression", "no image"],
)
def test_faults_of_the_older_layout(tmp_path: Path, fault: Any, sentence: str) -> None:
    fault(write_older(tmp_path))
    with pytest.raises(UserError, match=sentence):
        AffectNet(tmp_path, "train", 54)[0]


def test_a_missing_image_of_the_newer_layout(expressions: Path) -> None:
    (expressions / "val_set/images/30.jpg").unlink()
    with pytest.raises(UserError, match=r"30\.jpg is annotated but missing"):
        AffectNet(expressions, "val", 54)


def test_a_folder_in_neither_layout_is_refused(tmp_path: Path) -> None:
    sentence = r"not an AffectNet folder.*val_set/images/<id>\.jpg.*validation\.csv and Manually_Annotated_Images/"
    with pytest.raises(UserError, match=sentence):
        train(FER, tmp_path, tmp_path)


def test_training_reads_the_older_layout_too(tmp_path: Path) -> None:
    rows = [(f"{k}/{label}.png", 0, 0, 60, 60, label) for k in range(2) for label in range(8)]
    root = write_older(tmp_path / "old", rows, ("training", "validation"))
    assert len(train(FER, root, tmp_path / "run")) == 2
