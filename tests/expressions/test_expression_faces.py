"""Expression faces in AffectNet's two layouts, FER+'s and RAF-DB's, and what is wrong with other folders."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from emd_core.errors import UserError
from emd_core.expressions.affectnet import IMAGES
from emd_core.expressions.faces import ExpressionFaces
from tests.fakes.fer_data import FER, train, write_newer


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
    faces = ExpressionFaces(write_older(tmp_path), "train", 54)
    assert faces.labels.tolist() == [3, 0]
    for index, (columns, rows) in enumerate([((10, 49), (30, 49)), ((0, 39), (60, 79))]):
        image, label = faces[index]
        assert image.shape == (3, 54, 54)
        assert label == (3, 0)[index]
        assert (int(image[0].min()), int(image[0].max())) == columns
        assert (int(image[1].min()), int(image[1].max())) == rows


def test_the_newer_layout_leaves_out_what_is_no_expression(expressions: Path) -> None:
    faces = ExpressionFaces(expressions, "train", 54)
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
        (_rewrite(lambda t: t.assign(expression=9)), "holds no expression faces in 'train'"),
        (lambda root: (root / IMAGES / "1/a.png").write_text("no"), "is not a readable image"),
    ],
    ids=["image missing", "no column", "no box", "box outside", "no expression", "no image"],
)
def test_faults_of_the_older_layout(tmp_path: Path, fault: Any, sentence: str) -> None:
    fault(write_older(tmp_path))
    with pytest.raises(UserError, match=sentence):
        ExpressionFaces(tmp_path, "train", 54)[0]


def test_a_missing_image_of_the_newer_layout(expressions: Path) -> None:
    (expressions / "val_set/images/30.jpg").unlink()
    with pytest.raises(UserError, match=r"30\.jpg is annotated but missing"):
        ExpressionFaces(expressions, "val", 54)


def test_a_folder_in_neither_layout_is_refused(tmp_path: Path) -> None:
    sentence = r"holds no expression faces.*val_set/images/<id>\.jpg.*validation\.csv and Manually_Annotated_Images/"
    with pytest.raises(UserError, match=sentence):
        train(FER, tmp_path, tmp_path)


def test_training_reads_the_older_layout_too(tmp_path: Path) -> None:
    rows = [(f"{k}/{label}.png", 0, 0, 60, 60, label) for k in range(2) for label in range(8)]
    root = write_older(tmp_path / "old", rows, ("training", "validation"))
    assert len(train(FER, root, tmp_path / "run")) == 2


def write_faces(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((48, 48), 90, np.uint8))


def test_ferplus_takes_what_most_people_saw(tmp_path: Path) -> None:
    rows = [  # neutral, happy, surprise, sad, anger, disgust, fear, contempt, unknown, not a face
        ("a.png", 9, 1, 0, 0, 0, 0, 0, 0, 0, 0),
        ("b.png", 0, 0, 0, 1, 1, 1, 1, 4, 2, 0),
        ("c.png", 4, 4, 0, 0, 0, 0, 0, 0, 2, 0),  # no majority
        ("d.png", 0, 0, 0, 0, 0, 0, 0, 0, 0, 10),  # no face
        ("e.png", "(0, 0, 48, 48)", 0, 0, 8, 0, 0, 0, 0, 0, 0, 2),  # with a box, as older files have
    ]
    folder = tmp_path / "FER2013Valid"
    write_faces(folder, ["a.png", "b.png", "e.png"])
    with (folder / "label.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    faces = ExpressionFaces(tmp_path, "val", 54)
    named = {face.path.name: face.label for face in faces.faces}
    assert named == {"a.png": 0, "b.png": 7, "e.png": 3}
    assert faces[0][0].shape == (3, 54, 54)
    (folder / "label.csv").write_text("a.png,1,2\n")
    with pytest.raises(UserError, match=r"label\.csv, line 1: not an image and 10 votes"):
        ExpressionFaces(tmp_path, "val", 54)
    with pytest.raises(UserError, match=r"holds no expression faces in 'train'.*FER\+ \(FER2013Train/label\.csv"):
        ExpressionFaces(tmp_path, "train", 54)


def test_rafdb_is_read_in_our_order_of_classes(tmp_path: Path) -> None:
    write_faces(
        tmp_path / "Image/aligned", [f"train_0000{i}_aligned.jpg" for i in range(1, 8)] + ["test_0001_aligned.jpg"]
    )
    lines = [f"train_0000{i}.jpg {i}" for i in range(1, 8)] + ["test_0001.jpg 4"]
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
    assert ExpressionFaces(tmp_path, "train", 54).labels.tolist() == [3, 4, 5, 1, 2, 6, 0]
    assert ExpressionFaces(tmp_path, "val", 54).labels.tolist() == [1]
    for line in ("train_00001.jpg 9", "train_00001.jpg 12", "train_00001.jpg", "train_00001 1", "valid_00001.jpg 1"):
        (tmp_path / "EmoLabel/list_patition_label.txt").write_text(f"{lines[0]}\n{line}\n")
        with pytest.raises(UserError, match=f'line 2: "{line}" is not like'):
            ExpressionFaces(tmp_path, "train", 54)


def test_two_sets_in_one_folder_are_refused(expressions: Path) -> None:
    (expressions / "EmoLabel").mkdir()
    (expressions / "EmoLabel/list_patition_label.txt").write_text("train_00001.jpg 1\n")
    with pytest.raises(UserError, match="holds 2 sets of expression faces"):
        ExpressionFaces(expressions, "train", 54)
