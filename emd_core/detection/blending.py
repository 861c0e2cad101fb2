"""One face laid over another as forgers do it, so that the mask is known (section 3 of Li et al., "Face X-ray for More
General Face Forgery Detection", CVPR 2020).

Pictures are HWC uint8 RGB squares of S px, masks float32 in [0, 1], SS. Points are x, y in px; the five landmarks are
left eye, right eye, nose, left and right corner of the mouth, as seen in the picture.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Mask = NDArray[np.float32]
Points = NDArray[np.floating]

# A frontal face around the midpoint of its eyes, in distances between the eyes: its landmarks, and the right half of
# its outline from the forehead to the chin, about where the usual 68 landmarks end.
FACE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.57], [-0.415, 1.15], [0.415, 1.15]])
HALF = [[0.3, -0.52], [0.75, -0.45], [1.0, -0.15], [1.04, 0.25], [1.0, 0.65], [0.89, 1.05], [0.7, 1.42], [0.4, 1.72]]
OUTLINE = np.array([*HALF, [0.0, 1.83], *([-x, y] for x, y in reversed(HALF))])
# Landmarks of a face that fills its box, in sides of a crop.
USUAL = np.array([[0.375, 0.415], [0.625, 0.415], [0.5, 0.57], [0.4, 0.715], [0.6, 0.715]], np.float32)
GRID = 4  # points along a side of the grid that deforms the outline, as published
BEND = 0.03  # standard deviation of their moves, in sides of the picture
STRETCH = (0.75, 1.1)  # of the outline, across and down
EDGE = (0.005, 0.05)  # standard deviation of the Gaussian that softens the edge, in sides of the picture
CONTRAST = (0.5, 2.0)  # within which colour transfer may change a channel's standard deviation


class Blend(NamedTuple):
    picture: Picture
    mask: Mask


def blend_faces(
    base: Picture, base_points: Points, face: Picture, face_points: Points, rng: np.random.Generator
) -> Blend:
    """`base` with the face of the picture `face` in place of its own, which is of the same size."""
    mask = random_mask(base_points, base.shape[0], rng)
    moved = move(face, similarity(face_points, base_points))
    return Blend(lay_over(base, recolour(moved, base, mask), mask), mask)


def lay_over(base: Picture, face: Picture, mask: Mask) -> Picture:
    """Eq. 1: M face + (1 - M) base; the base is the same to the byte where M is 0."""
    return np.asarray(cv2.blendLinear(face, base, mask, 1 - mask), dtype=np.uint8)


def random_mask(points: Points, size: int, rng: np.random.Generator, outline: Points = OUTLINE) -> Mask:
    """The outline of the face with these landmarks, stretched, bent and softened at random, for a picture of `size`."""
    centre = OUTLINE.mean(axis=0)
    stretched = centre + (outline - centre) * rng.uniform(*STRETCH, size=2)
    outline = bend(transform(stretched, similarity(FACE, points)), size, rng)
    return soften(fill(outline, size), size * rng.uniform(*EDGE))


def bend(points: Points, size: int, rng: np.random.Generator) -> Points:
    """Points (N, 2) moved with a coarse grid over the picture whose corners move at random."""
    moves = rng.normal(0, BEND * size, (GRID, GRID, 2)).astype(np.float32)
    place = (np.clip(points / size, 0, 1) * (GRID - 1)).astype(np.float32)
    moved = cv2.remap(moves, place[:, 0], place[:, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(points + moved[:, 0])


def fill(outline: Points, size: int) -> Mask:
    """1 within the convex hull of the points (N, 2), else 0."""
    mask = np.zeros((size, size), np.float32)
    hull = cv2.convexHull(np.rint(outline).astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(mask, hull, 1.0), dtype=np.float32)


def soften(mask: Mask, sigma: float) -> Mask:
    """Blurred by a Gaussian of `sigma` px; beyond the picture's border it goes on as at the border."""
    blurred = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(blurred, 0, 1), dtype=np.float32)


def similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """The turn, zoom and shift, (2, 3), that brings points (N, 2) nearest to others, by least squares."""
    centre, aim = source.mean(axis=0), target.mean(axis=0)
    z, w = (points @ np.array([1, 1j]) for points in (source - centre, target - aim))
    factor = np.vdot(z, w) / np.vdot(z, z)  # a complex number turns and zooms
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, aim - turn @ centre])


def transform(points: Points, matrix: NDArray[np.float64]) -> Points:
    return points @ matrix[:, :2].T + matrix[:, 2]


def move(picture: Picture, matrix: NDArray[np.float64]) -> Picture:
    """The picture after a `similarity`; what was beyond its border is its mirror image."""
    size = picture.shape[:2]
    return np.asarray(cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT_101), dtype=np.uint8)


def recolour(face: Picture, base: Picture, mask: Mask) -> Picture:
    """The face with the base's mean and standard deviation of each channel where the mask is above 1/2."""
    inside = (mask > 0.5).astype(np.uint8)
    if not inside.any():
        return face
    (mean_31, std_31), (aim_31, wanted_31) = (cv2.meanStdDev(picture, mask=inside) for picture in (face, base))
    contrast_31 = np.clip(wanted_31 / np.maximum(std_31, 1e-6), *CONTRAST)
    curve_3L = np.rint(np.clip((np.arange(256) - mean_31) * contrast_31 + aim_31, 0, 255)).astype(np.uint8)
    return np.asarray(cv2.LUT(face, np.ascontiguousarray(curve_3L.T[None])), dtype=np.uint8)
