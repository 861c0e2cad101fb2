"""The face of a video is found where it is, also between the frames that are searched everywhere."""

from collections.abc import Sequence

import numpy as np
import pytest

from emd_core.faces.boxes import Detection, iou
from emd_core.faces.search import FaceSearch, find_face

HEIGHT, WIDTH = 120, 200
Faces = list[tuple[int, int, int]]  # centre and side of each face, the followed one first


class Oracle:
    """Knows the faces of each image (whose first pixels hold its number and corner), and counts what it looked at."""

    def __init__(self, faces: Sequence[Faces], blind: Sequence[int] = (), unsure: Sequence[int] = ()) -> None:
        self.faces, self.blind, self.unsure = faces, blind, unsure
        self.everywhere: list[int] = []
        self.near: list[int] = []
        self.confirmed: list[int] = []
        self.smallest: list[float] = []

    def detect(self, frames: Sequence[np.ndarray], min_face: float) -> list[list[Detection]]:
        found = []
        for frame in frames:
            height, width = frame.shape[:2]
            number, x0, y0 = (int(v) for v in frame[0, 0])
            whole = (height, width) == (HEIGHT, WIDTH)
            (self.everywhere if whole else self.near).append(number)
            self.smallest += [min_face] if whole else []
            boxes = [Detection(x - s / 2, y - s / 2, x + s / 2, y + s / 2, 0.9) for x, y, s in self.faces[number]]
            boxes = [Detection(b.x1 - x0, b.y1 - y0, b.x2 - x0, b.y2 - y0, b.score) for b in boxes]
            inside = [b for b in boxes if b.x1 >= 0 and b.y1 >= 0 and b.x2 <= width and b.y2 <= height]
            found.append([] if not whole and number in self.blind else [b for b in inside if b.side >= min_face])
        return found

    def confirm(self, frames: Sequence[np.ndarray], boxes: Sequence[Detection]) -> list[Detection | None]:
        """The face that covers the expected box best, if any of it is there."""
        confirmed: list[Detection | None] = []
        for frame, expected in zip(frames, boxes, strict=True):
            number = int(frame[0, 0, 0])
            self.confirmed.append(number)
            faces = [Detection(x - s / 2, y - s / 2, x + s / 2, y + s / 2, 0.9) for x, y, s in self.faces[number]]
            best = max(faces, key=lambda face, box=expected: iou(face, box), default=None)  # type: ignore[misc]
            confirmed.append(best if best and number not in self.unsure and iou(best, expected) > 0 else None)
        return confirmed


def images(n: int) -> list[np.ndarray]:
    """Every pixel tells the image's number and its own place."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return [np.stack([np.full_like(x, i), x, y], axis=2).astype(np.uint8) for i in range(n)]


def search(oracle: Oracle, every: int) -> list[Detection | None]:
    cfg = FaceSearch(min_face=12, detect_side=200, detect_every=every, batch=3)
    return find_face(images(len(oracle.faces)), oracle, 12, cfg).boxes


MOVING: list[Faces] = [[(40 + 4 * i, 50 + i, 30 + i)] for i in range(10)]
STEADY: list[Faces] = [[(40 + i, 50 + i, 30 + i)] for i in range(10)]


def test_a_face_that_stays_is_confirmed_between_the_searched_frames() -> None:
    exact, sparse = Oracle(STEADY), Oracle(STEADY)
    assert search(sparse, 4) == search(exact, 1)
    assert exact.everywhere == list(range(10)) and exact.near == exact.confirmed == []
    assert sparse.everywhere == [0, 4, 8, 9] and sparse.confirmed == [1, 2, 3, 5, 6, 7] and sparse.near == []
    assert set(exact.smallest) == {12} and sparse.smallest == [12, 18, 18, 18]  # larger ones only, after the first


def test_where_it_is_not_confirmed_it_is_looked_for_nearby() -> None:
    oracle = Oracle(STEADY, unsure=[2, 5])
    assert search(oracle, 4) == search(Oracle(STEADY), 1) and oracle.near == [2, 5]
    assert oracle.everywhere == [0, 4, 8, 9]


def test_a_face_that_moves_far_is_searched_everywhere() -> None:
    oracle = Oracle(MOVING)
    assert search(oracle, 4) == search(Oracle(MOVING), 1)
    assert set(oracle.everywhere) == set(range(9)) | {9} and oracle.confirmed == oracle.near == []


def test_a_face_that_is_not_where_it_must_be_is_looked_for_everywhere() -> None:
    jump = [*STEADY[:5], [(150, 30, 34)], *STEADY[6:]]
    oracle = Oracle(jump, blind=[2], unsure=[2])
    found = search(oracle, 4)
    assert {2, 5} <= set(oracle.everywhere)
    assert found[2] and found[2].x1 == 42 - 16
    assert found[5] is None  # another person there, too far away to be the same


def test_a_face_with_company_is_not_confirmed_without_a_look_around() -> None:
    faces = [[(x, y, s), (x + 60, y, s - 4)] for ((x, y, s),) in STEADY]
    oracle = Oracle(faces)
    assert search(oracle, 4) == search(Oracle(faces), 1)
    assert oracle.confirmed == [] and sorted(oracle.near) == [1, 2, 3, 5, 6, 7]


def test_a_small_face_that_stays_wins_over_a_large_one_that_leaves() -> None:
    """The large one is alone in the first frame, so that only large ones are looked for at first."""
    faces: list[Faces] = [[(50, 60, 50)], *[[(150, 60, 20)]] * 9]
    assert search(Oracle(faces), 3) == search(Oracle(faces), 1) != [None] * 10


def test_a_larger_face_that_comes_later_wins() -> None:
    faces: list[Faces] = [*[[(40, 60, 30)]] * 4, *[[(40, 60, 30), (140, 60, 90)]] * 6]
    found = search(Oracle(faces), 4)
    assert found == search(Oracle(faces), 1) and found[9] and found[9].side == 90


def test_after_a_cut_the_face_that_stays_is_followed_in_every_frame() -> None:
    """Seen every fifth frame only, the face seems to go on as the wrong one of two."""
    before: list[Faces] = [[(60, 60, 40)]] * 3
    after: list[Faces] = [[(100, 60, 50), (70, 60, 36)]] * 8
    exact, sparse = search(Oracle(before + after), 1), search(Oracle(before + after), 5)
    assert sparse == exact and None not in sparse[3:]


@pytest.mark.parametrize("path", [MOVING, STEADY])
def test_a_second_face_nearby_is_never_taken(path: list[Faces]) -> None:
    faces = [[(x, y, s), (x + 34, y, s - 8)] for ((x, y, s),) in path]
    faces[2] = faces[2][1:]  # the followed face is hidden for a moment
    found = search(Oracle(faces), 5)
    assert found == search(Oracle(faces), 1)
    assert [i for i, face in enumerate(found) if face is None] == [2]


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
