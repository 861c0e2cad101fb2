"""The face of a video is found where it is, also between the frames that are searched everywhere."""

from collections.abc import Sequence

import numpy as np
import pytest

from emd_core.boxes import Detection
from emd_core.face_search import FaceSearch, find_face, iou

HEIGHT, WIDTH = 120, 200
Faces = list[tuple[int, int, int]]  # centre and side of each face, the followed one first


class Oracle:
    """Knows the faces of each image (whose first pixels hold its number and corner), and counts what it looked at."""

    def __init__(self, faces: Sequence[Faces], blind: Sequence[int] = ()) -> None:
        self.faces, self.blind = faces, blind
        self.everywhere: list[int] = []
        self.near: list[int] = []

    def detect(self, frames: Sequence[np.ndarray], min_face: float) -> list[list[Detection]]:
        found = []
        for frame in frames:
            height, width = frame.shape[:2]
            number, x0, y0 = (int(v) for v in frame[0, 0])
            whole = (height, width) == (HEIGHT, WIDTH)
            (self.everywhere if whole else self.near).append(number)
            boxes = [Detection(x - s / 2, y - s / 2, x + s / 2, y + s / 2, 0.9) for x, y, s in self.faces[number]]
            boxes = [Detection(b.x1 - x0, b.y1 - y0, b.x2 - x0, b.y2 - y0, b.score) for b in boxes]
            inside = [b for b in boxes if b.x1 >= 0 and b.y1 >= 0 and b.x2 <= width and b.y2 <= height]
            found.append([] if not whole and number in self.blind else [b for b in inside if b.side >= min_face])
        return found


def images(n: int) -> list[np.ndarray]:
    """Every pixel tells the image's number and its own place."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return [np.stack([np.full_like(x, i), x, y], axis=2).astype(np.uint8) for i in range(n)]


def search(oracle: Oracle, every: int) -> list[Detection | None]:
    cfg = FaceSearch(min_face=12, detect_side=200, detect_every=every, batch=3)
    return find_face(images(len(oracle.faces)), oracle, 12, cfg)


MOVING: list[Faces] = [[(40 + 4 * i, 50 + i, 30 + i)] for i in range(10)]


def test_between_the_searched_frames_the_face_is_looked_for_nearby_and_found_as_exactly() -> None:
    exact, sparse = Oracle(MOVING), Oracle(MOVING)
    assert search(sparse, 4) == search(exact, 1)
    assert exact.everywhere == list(range(10)) and exact.near == []
    assert sorted(sparse.everywhere) == [0, 4, 8, 9] and sorted(sparse.near) == [1, 2, 3, 5, 6, 7]


def test_a_face_that_is_not_where_it_must_be_is_looked_for_everywhere() -> None:
    jump = [*MOVING[:5], [(150, 30, 34)], *MOVING[6:]]
    oracle = Oracle(jump, blind=[2])
    found = search(oracle, 4)
    assert {2, 5} <= set(oracle.everywhere)
    assert found[2] and found[2].x1 == 48 - 16
    assert found[5] is None  # another person there, too far away to be the same


def test_after_a_cut_the_face_that_stays_is_followed_in_every_frame() -> None:
    """Seen every fifth frame only, the face seems to go on as the wrong one of two."""
    before: list[Faces] = [[(60, 60, 40)]] * 3
    after: list[Faces] = [[(100, 60, 50), (70, 60, 36)]] * 8
    exact, sparse = search(Oracle(before + after), 1), search(Oracle(before + after), 5)
    assert sparse == exact and None not in sparse[3:]


def test_a_second_face_nearby_is_never_taken() -> None:
    faces = [[(x, y, s), (x + 34, y, s - 2)] for ((x, y, s),) in MOVING]
    faces[2] = faces[2][1:]  # the followed face is hidden for a moment
    found = search(Oracle(faces), 5)
    assert [face and round((face.x1 + face.x2) / 2) for face in found] == [
        None if i == 2 else 40 + 4 * i for i in range(10)
    ]


def test_a_video_without_a_face_is_searched_everywhere() -> None:
    oracle = Oracle([[]] * 6)
    assert search(oracle, 3) == [None] * 6 and sorted(oracle.everywhere) == list(range(6))


@pytest.mark.parametrize(
    ("size", "min_face", "side", "reduced"),
    [
        ((640, 480), 60, 320, (320, 240)),
        ((480, 640), 60, 320, (240, 320)),
        ((1920, 1080), 40, 320, (576, 324)),  # a face of 40 px keeps 12
        ((300, 200), 12, 320, (300, 200)),  # never enlarged
    ],
)
def test_frames_are_reduced_as_far_as_the_smallest_face_allows(
    size: tuple[int, int], min_face: int, side: int, reduced: tuple[int, int]
) -> None:
    cfg = FaceSearch(min_face=min_face, detect_side=side, detect_every=1, batch=1)
    assert cfg.reduced_size(*size) == reduced


@pytest.mark.parametrize(
    ("other", "share"), [((0, 0, 10, 10), 1.0), ((5, 0, 15, 10), 1 / 3), ((10, 0, 20, 10), 0.0), ((0, 0, 5, 5), 0.25)]
)
def test_iou(other: tuple[int, int, int, int], share: float) -> None:
    assert iou(Detection(0, 0, 10, 10, 1), Detection(*other, 1)) == pytest.approx(share)
