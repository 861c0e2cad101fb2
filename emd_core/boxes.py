"""Which face of a video, and which square of the frame."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Two boxes are the same face when their centres lie closer than this many sides of the larger box, and their sides
# differ by less than this factor. Both are generous, as picked frames can be a second apart.
MAX_MOVE = 1.0
MAX_ZOOM = 2.0


class Detection(NamedTuple):
    """A face: corners in pixels of the frame (x right, y down), and the detector's confidence in [0, 1]."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float

    @property
    def side(self) -> float:
        return max(self.x2 - self.x1, self.y2 - self.y1)


class Square(NamedTuple):
    """The crop: its top left corner and side in pixels of the frame."""

    x: int
    y: int
    side: int


def choose_face(detections: Sequence[Sequence[Detection]]) -> list[Detection | None]:
    """The face of a video: the track with the largest sum of box sides over the frames.

    Of two faces that stay, the larger one wins; one that stays wins over a larger one that only passes (a sum of areas
    would let it take over). A second person cannot take the crop for single frames.

    Args:
        detections: all faces of each frame.

    Returns:
        One detection per frame, None where the chosen face was not found.
    """
    tracks: list[dict[int, Detection]] = []  # each: frame number -> detection
    for frame, faces in enumerate(detections):
        open_tracks = {i: track[max(track)] for i, track in enumerate(tracks)}
        pairs = [(_move(last, face), i, j) for i, last in open_tracks.items() for j, face in enumerate(faces)]
        free = set(range(len(faces)))
        for move, i, j in sorted(pairs):  # the closest first
            if move < MAX_MOVE and i in open_tracks and j in free:
                tracks[i][frame] = faces[j]
                del open_tracks[i]
                free.remove(j)
        tracks.extend({frame: faces[j]} for j in sorted(free))
    largest = max(tracks, key=lambda track: sum(face.side for face in track.values()), default={})
    return [largest.get(frame) for frame in range(len(detections))]


def crop_square(face: Detection, width: int, height: int, scale: float) -> Square:
    """FaceForensics++'s crop rule: a square of `scale` times the longer side of the box, around its centre.

    The corner is moved into the frame first, then the side is cut where the square still sticks out, so the square
    lies inside the width x height frame.
    """
    x1, y1, x2, y2 = (int(v) for v in face[:4])
    side = int(max(x2 - x1, y2 - y1) * scale)
    x = min(max((x1 + x2) // 2 - side // 2, 0), width - 1)
    y = min(max((y1 + y2) // 2 - side // 2, 0), height - 1)
    return Square(x, y, max(1, min(side, width - x, height - y)))


def cut(image: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.uint8]:
    """The square of an HW or HWC image, resized to `size` pixels.

    Shrinking averages areas, as any other filter of cv2 aliases, and aliasing looks like a manipulation trace.
    Enlarging is cubic, which keeps more of the high frequencies than linear.
    """
    x, y, side = square
    patch = image[y : y + side, x : x + side]
    if side == size:
        return np.ascontiguousarray(patch)
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(patch, (size, size), interpolation=method), dtype=np.uint8)


def _move(a: Detection, b: Detection) -> float:
    """Distance between the centres in sides of the larger box; infinite where the sizes differ too much."""
    small, large = sorted((a.side, b.side))
    if large >= MAX_ZOOM * small:
        return math.inf
    return math.hypot(a.x1 + a.x2 - b.x1 - b.x2, a.y1 + a.y2 - b.y1 - b.y2) / 2 / large
