"""Fakes without end from originals alone: to learn from in place of a data set's fakes."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from emd_core.detection.blending import USUAL, blend_faces
from emd_core.detection.crops import Batch, FaceCrops
from emd_core.detection.profile import SCALE
from emd_core.errors import UserError
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.training import distributed
from emd_core.training.resuming import Preemption

SURE = 0.5  # probability of a face from which on its landmarks are believed
ASKED, NEAREST = 500, 10  # originals that are compared with a base, and those of them of which one lends its face
BATCH = 64  # crops; memory only


def find_landmarks(crops: FaceCrops, rows: NDArray[np.int64], stop: Preemption) -> NDArray[np.float32]:
    """x, y of the five points of MTCNN's last network in these crops, in sides of the crop, (N, 5, 2).

    Where that sees no face they are those of a usual face in its box.
    """
    faces = MtcnnDetector(threshold=SURE, device="cpu")  # on a GPU the last bits would differ, and with them the blends
    parts = []
    for batch in stop.watch(crops.batches(rows, BATCH)):
        points_N52, score_N = faces.marks([*batch.image.permute(0, 2, 3, 1).numpy()], SCALE)
        parts.append(np.where(score_N[:, None, None] >= SURE, points_N52, USUAL))
    return np.concatenate(parts)


def make_blends(crops: FaceCrops, rows: NDArray[np.int64], seed: int, stop: Preemption) -> "Blends":
    """Of these originals; rank 0 looks for their landmarks."""
    return Blends(crops, rows, seed, distributed.on_main(lambda: find_landmarks(crops, rows, stop)))


class Blends:
    """A table that goes on below its end: row r + k n is blend number k = 1, 2, ... on original r of n crops.

    Everything random in a blend is drawn from (seed, its row), so it is the same whenever and wherever it is made. The
    face is of an original of another target in the same quality: of ASKED random ones one of the NEAREST by landmarks.
    """

    def __init__(
        self, crops: FaceCrops, rows: NDArray[np.int64], seed: int, landmarks_N52: NDArray[np.float32]
    ) -> None:
        """`rows`: the originals among the crops that may be used; `landmarks_N52` theirs, of `find_landmarks`."""
        self._crops, self._rows, self._seed, self._landmarks_N52 = crops, rows, seed, landmarks_N52
        table = crops.table.iloc[rows]
        if (targets := table.groupby("quality")["target"].nunique().min()) < 2:
            raise UserError(
                f"the train split has originals of {targets} target in one quality, but a blend needs those of two; "
                "take more videos (train_emd.targets)."
            )
        self._target, self._quality = (pd.factorize(table[name])[0] for name in ("target", "quality"))
        self._place = np.full(len(crops), -1)
        self._place[rows] = np.arange(len(rows))

    def rows(self, number: int) -> NDArray[np.int64]:
        """Every original as it is, then blend `number` on each of them."""
        return np.concatenate([self._rows, self._rows + number * len(self._crops)])

    def read(self, index: NDArray[np.int64]) -> Batch:
        """As FaceCrops.read, of these rows of the table without end; masks are float32 in [0, 1], and all are known."""
        base, blend = index % len(self._crops), np.flatnonzero(index >= len(self._crops))
        image = self._crops.read(base).image.permute(0, 2, 3, 1).numpy()
        mask = np.zeros(image.shape[:3], np.float32)
        places, rngs = self._place[base[blend]], [np.random.default_rng([self._seed, row]) for row in index[blend]]
        lenders = np.array([self.choose_lender(*x) for x in zip(places, rngs, strict=True)], np.int64)
        faces = self._crops.read(self._rows[lenders]).image.permute(0, 2, 3, 1).numpy()
        points, face_points = (self._landmarks_N52[x] * self._crops.size for x in (places, lenders))
        for i, *pair in zip(blend, points, faces, face_points, rngs, strict=True):
            image[i], mask[i] = blend_faces(image[i], *pair)
        return Batch(
            torch.from_numpy(image).permute(0, 3, 1, 2),
            torch.from_numpy(mask).unsqueeze(1),
            torch.from_numpy((index >= len(self._crops)).astype(np.int64)),
            torch.ones(len(index), dtype=torch.bool),
            index,
        )

    def choose_lender(self, place: int, rng: np.random.Generator) -> int:
        """Which of the originals lends its face to the one at `place`; both are numbers in `rows`."""
        others = np.flatnonzero((self._target != self._target[place]) & (self._quality == self._quality[place]))
        asked = rng.choice(others, min(ASKED, len(others)), replace=False)
        far = ((self._landmarks_N52[asked] - self._landmarks_N52[place]) ** 2).sum(axis=(1, 2))
        return int(rng.choice(asked[np.argsort(far, kind="stable")[:NEAREST]]))
