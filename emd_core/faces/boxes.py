"""Which face of a video, and which square of the frame."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

# Two boxes of one shot are the same face when they overlap by more than this (IoU), and their sides differ by less than
# this factor. Both are generous, as picked frames can be a second apart; what jumps farther is taken for another face.
MIN_OVERLAP = 0.15
MAX_ZOOM = 2.0
FAR = 1e3  # more than the moves of all pairs together


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


Track = dict[int, Detection]  # by frame number


def choose_face(
    detections: Sequence[Sequence[Detection]], shots: Sequence[int] | None = None
) -> list[Detection | None]:
    """The face of a video: the track with the largest sum of box sides over the frames.

    Of two faces that stay, the larger one wins; one that stays wins over a larger one that only passes (a sum of areas
    would let it take over). A second person cannot take the crop, neither for single frames nor after a cut.

    Args:
        detections: all faces of each frame.
        shots: number of the shot that each frame belongs to; None: all are of one.

    Returns:
        One detection per frame, None where the chosen face was not found.
    """
    chosen = max(face_tracks(detections, shots), key=most_face, default={})
    return [chosen.get(frame) for frame in range(len(detections))]


def face_tracks(detections: Sequence[Sequence[Detection]], shots: Sequence[int] | None = None) -> list[Track]:
    """The faces that belong together: a cut or a jump ends a track. Arguments as of `choose_face`."""
    tracks: list[Track] = []
    for frame, faces in enumerate(detections):
        moves = np.array([[_move(track[max(track)], face) for face in faces] for track in tracks])
        near = np.where(np.isfinite(moves), moves, FAR).reshape(len(tracks), len(faces))
        if shots is not None:
            near[[shots[max(track)] != shots[frame] for track in tracks]] = FAR
        # As many faces as possible go on with a track, at the least sum of moves: were the closest pair taken first,
        # two faces that move side by side could change places.
        taken = set()
        for i, j in zip(*linear_sum_assignment(near), strict=True):
            if near[i, j] < FAR:
                tracks[i][frame] = faces[j]
                taken.add(j)
        tracks.extend({frame: face} for j, face in enumerate(faces) if j not in taken)
    return tracks


def most_face(track: Track) -> float:
    """How much face a track shows over time: the sum of its boxes' sides."""
    return sum(face.side for face in track.values())


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


def resize(patch: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A square image (HWC uint8) resized to `size` pixels, in memory of its own.

    Shrinking averages areas, as any other filter of cv2 aliases, and aliasing looks like a manipulation trace.
    Enlarging is cubic, which keeps more of the high frequencies than linear.
    """
    side = patch.shape[0]
    if side == size:
        return np.array(patch)
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(patch, (size, size), interpolation=method), dtype=np.uint8)


def cut(image: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.uint8]:
    """The square of an HWC image, resized to `size` pixels."""
    x, y, side = square
    return resize(image[y : y + side, x : x + side], size)


def detections(found: NDArray[np.floating], frame: NDArray[np.uint8], min_face: float) -> list[Detection]:
    """Faces from rows of x1, y1, x2, y2, score: clipped to the frame, without those smaller than `min_face` px."""
    height, width = frame.shape[:2]
    found = found.astype(np.float64)
    corners = np.clip(found[:, :4], 0, [width, height, width, height])
    large = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=np.inf) >= min_face
    return [Detection(*row) for row in np.column_stack([corners, found[:, 4]])[large].tolist()]


def iou(a: Detection, b: Detection) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    shared = max(width, 0) * max(height, 0)
    return shared / (_area(a) + _area(b) - shared) if shared else 0.0


def _move(a: Detection, b: Detection) -> float:
    """Distance between the centres in sides of the larger box; infinite where they cannot be one face."""
    small, large = sorted((a.side, b.side))
    if large >= MAX_ZOOM * small or iou(a, b) <= MIN_OVERLAP:
        return math.inf
    return math.hypot(a.x1 + a.x2 - b.x1 - b.x2, a.y1 + a.y2 - b.y1 - b.y2) / 2 / large


def _area(box: Detection) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)
