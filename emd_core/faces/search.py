"""The face of a video: looked for everywhere in some picked frames, and near where it must be in the others."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from emd_core.config import Config
from emd_core.faces.boxes import Detection, Square, choose_face, face_tracks, iou, most_face
from emd_core.faces.detectors import FaceDetector
from emd_core.faces.shots import number_shots

WINDOW = 1.75  # side of the window in which an expected face is looked for, in sides of its box
SMALLEST = 0.6  # a face found there has at least this share of the expected side
SAME = 0.5  # IoU with the expected box from which on a face is the expected one
SAME_PLACE = 0.7  # the same where nothing around it is looked at
COMPANY = 0.25  # of the chosen track's face from which on another track is a second person's
SMALLEST_SEEN = 12  # px that a face must keep in the reduced frame: what MTCNN's first network sees


class Reduced(Config):
    """In which size of a frame faces are looked for."""

    min_face: int = Field(ge=12, description="Shorter side of a face box below which it is ignored, px of the frame.")
    detect_side: int = Field(
        ge=64,
        description="Longer side, px, of the reduced frame in which faces are looked for; less where a face "
        "of min_face px would be missed.",
    )
    batch: int = Field(ge=1, description="Frames per call of the detector.")

    def reduced_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the reduced frame; a frame is never enlarged."""
        longer = max(width, height)
        side = min(longer, max(self.detect_side, round(SMALLEST_SEEN / self.min_face * longer)))
        return max(1, round(width * side / longer)), max(1, round(height * side / longer))


class FaceSearch(Reduced):
    detect_every: int = Field(
        ge=1,
        description="Look everywhere in every k-th picked frame and in the others only near where the face must be; "
        "1 looks everywhere in all (the exact mode).",
    )


class FoundFace(NamedTuple):
    """The face of a video in its picked frames."""

    boxes: list[Detection | None]  # per frame; None where it was not found
    others: list[bool]  # per frame: only other faces were found there
    several: bool  # somebody else is seen for long, too


def find_face(
    images: Sequence[NDArray[np.uint8]], detector: FaceDetector, min_face: float, cfg: FaceSearch
) -> FoundFace:
    """One face per image: that of the person with the most face over time, who is not followed across a cut.

    Args:
        images: the picked frames of a video, reduced, HWC uint8 RGB, [0, 255], all of one size.
        min_face: shorter side of the smallest face, in pixels of these images.
    """
    last = len(images) - 1
    keys = [i for i in range(len(images)) if i % cfg.detect_every == 0 or i == last]
    shots = number_shots(images)
    faces: list[list[Detection]] = [[] for _ in images]

    def look_everywhere(numbers: Sequence[int], smallest: float = min_face) -> None:
        for start in range(0, len(numbers), cfg.batch):
            batch = numbers[start : start + cfg.batch]
            for i, found in zip(batch, detector.detect([images[i] for i in batch], smallest), strict=True):
                faces[i] = found

    def show_one_face() -> bool:
        """Search the first key everywhere, the others for its face and larger ones; whether each shows one face.

        If so, no smaller one can be the face that is largest over time; else all sizes are needed.
        """
        first, *others = keys
        look_everywhere([first])
        if len(faces[first]) != 1:
            return False
        look_everywhere(others, max(min_face, SMALLEST * shorter_side(faces[first][0])))
        return all(len(faces[i]) == 1 for i in others) and all(
            choose_face([faces[i] for i in keys], [shots[i] for i in keys])
        )

    if cfg.detect_every == 1:
        look_everywhere(keys)
    elif not show_one_face():
        look_everywhere(keys[1:])
    known = choose_face(faces, shots)
    expected: dict[int, Detection] = {}
    alone: dict[int, Detection] = {}
    for a, b in pairwise(keys):
        before, after = known[a], known[b]
        # One that has moved far may be another person after a cut: then all faces in between are needed.
        if before and after and iou(before, after) >= SAME:
            places = {i: between(before, after, (i - a) / (b - a)) for i in range(a + 1, b)}
            expected |= places
            alone |= places if len(faces[a]) == len(faces[b]) == 1 else {}
    found = look_at(images, detector, alone)
    lost = {i: face for i, face in expected.items() if i not in found}
    for i, face in (found | look_near(images, detector, lost, cfg.batch)).items():
        faces[i] = [face]
    chosen, searched = choose_face(faces, shots), set(keys)
    # Nothing was found there, or somebody whom the frames searched since show not to be the one.
    while missing := [i for i in range(len(images)) if i not in searched and not chosen[i]]:
        look_everywhere(missing)
        searched |= set(missing)
        chosen = choose_face(faces, shots)
    others = [bool(found) and not box for found, box in zip(faces, chosen, strict=True)]
    return FoundFace(chosen, others, several_people(faces, shots))


def several_people(faces: Sequence[Sequence[Detection]], shots: Sequence[int]) -> bool:
    """Whether another track has a good part of the face that the chosen one has."""
    tracks = face_tracks(faces, shots)
    _, *rest = sorted((most_face(track) for track in tracks), reverse=True) or [0.0]
    return bool(rest) and rest[0] >= COMPANY * max(map(most_face, tracks))


def look_at(
    images: Sequence[NDArray[np.uint8]], detector: FaceDetector, expected: dict[int, Detection]
) -> dict[int, Detection]:
    """The faces that the detector confirms at the very place where they are expected, by image number."""
    confirmed = detector.confirm([images[i] for i in expected], list(expected.values()))
    pairs = zip(expected, confirmed, strict=True)
    return {i: face for i, face in pairs if face and iou(face, expected[i]) >= SAME_PLACE}


def look_near(
    images: Sequence[NDArray[np.uint8]], detector: FaceDetector, expected: dict[int, Detection], batch: int
) -> dict[int, Detection]:
    """The faces that are found where they are expected, by image number."""
    if not expected:
        return {}
    height, width = images[0].shape[:2]
    largest = max(face.side for face in expected.values())
    window = min(int(WINDOW * largest), height, width)
    smallest = SMALLEST * min(map(shorter_side, expected.values()))
    found: dict[int, Detection] = {}
    numbers = list(expected)
    for start in range(0, len(numbers), batch):
        chosen = numbers[start : start + batch]
        corners = [window_at(expected[i], window, width, height) for i in chosen]
        patches = [images[i][y : y + window, x : x + window] for i, (x, y, _) in zip(chosen, corners, strict=True)]
        for i, (x, y, _), faces in zip(chosen, corners, detector.detect(patches, smallest), strict=True):
            moved = [Detection(f.x1 + x, f.y1 + y, f.x2 + x, f.y2 + y, f.score) for f in faces]
            close = max(moved, key=lambda face, i=i: iou(face, expected[i]), default=None)  # type: ignore[misc]
            if close and iou(close, expected[i]) >= SAME:
                found[i] = close
    return found


def window_at(face: Detection, side: int, width: int, height: int) -> Square:
    """The square of `side` px around a face, moved into the frame."""
    x, y = round((face.x1 + face.x2 - side) / 2), round((face.y1 + face.y2 - side) / 2)
    return Square(min(max(x, 0), width - side), min(max(y, 0), height - side), side)


def shorter_side(face: Detection) -> float:
    return min(face.x2 - face.x1, face.y2 - face.y1)


def between(a: Detection, b: Detection, share: float) -> Detection:
    """The box `share` of the way from a to b."""
    return Detection(*(u + (v - u) * share for u, v in zip(a, b, strict=True)))
