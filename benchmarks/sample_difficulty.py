"""How hard the drawn data are: what a linear classifier on raw pixels reaches on people it has not seen.

    python -m benchmarks.sample_difficulty --faces data/faces

0.50 is chance. A low number says that a detector's score on the sample comes from more than colours and places.
"""

import warnings
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from components.command_line.exits import exit_on_user_error
from emd_core.errors import UserError
from emd_core.storage.manifest import FACES, OK, ORIGINAL, read_manifest

SIDE = 32  # pixels: the crops are shrunk to this before they are classified
INVERSE_PENALTY = 0.01  # of the logistic regression; there are more pixels than crops


def load_pixels(folder: Path, rows: pd.DataFrame) -> NDArray[np.float32]:
    """(N, SIDE * SIDE * 3) values in [0, 255], one row per row of the table."""
    files = {name: np.load(folder / name, mmap_mode="r") for name in rows["file"].unique()}
    crops = (files[file][row] for file, row in zip(rows["file"], rows["row"], strict=True))
    small = [cv2.resize(np.asarray(crop), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for crop in crops]
    return np.array(small, dtype=np.float32).reshape(len(small), -1)


def linear_accuracy(folder: Path, table: pd.DataFrame, method: str, quality: str) -> float:
    """Class-balanced accuracy in [0, 1] on the test split of a model fitted to the train split."""
    rows = table[(table["quality"] == quality) & table["method"].isin([ORIGINAL, method])]
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    for name, part in (("train", train), ("test", test)):
        if part["label"].nunique() < 2:
            raise UserError(
                f"{folder} has not both originals and {method} in the {name} split at {quality}; make it from a "
                "data set with all of them."
            )
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=300)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stopped early is still a fit
        model.fit(load_pixels(folder, train), train["label"])
    return float(balanced_accuracy_score(test["label"], model.predict(load_pixels(folder, test))))


def main(faces: Annotated[Path, typer.Option(help="Folder of face crops.")]) -> None:
    """Print the linear classifier's test accuracy for every method and quality."""
    table = read_manifest(faces, FACES).table
    table = table[table["status"] == OK]
    print("method quality accuracy")
    for method in sorted(set(table["method"]) - {ORIGINAL}):
        for quality in sorted(table.loc[table["method"] == method, "quality"].unique()):
            print(f"{method} {quality} {linear_accuracy(faces, table, method, quality):.3f}")


if __name__ == "__main__":
    exit_on_user_error(lambda: typer.run(main))
