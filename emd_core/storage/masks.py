"""Masks of what was manipulated: boolean HW arrays, True = manipulated, stored as one bit per pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def pack(mask: Mask) -> NDArray[np.uint8]:
    """(H, W) bool -> (H, ceil(W / 8)) uint8; the leftmost pixel is the highest bit of the first byte."""
    return np.packbits(mask, axis=-1)


def unpack(packed: NDArray[np.uint8], width: int) -> Mask:
    """(..., H, ceil(width / 8)) uint8 -> (..., H, width) bool, the inverse of `pack`; takes one mask or a batch."""
    return np.unpackbits(packed, axis=-1, count=width).astype(bool)


def mask_from_patch(patch: NDArray[np.uint8], size: int, threshold: int) -> Mask:
    """The mask of a crop, from the same square of a frame of FaceForensics++'s mask video.

    It is binarised before it is resized: Face2Face and NeuralTextures masks are grey renders of the face whose
    darkest parts are near 25 of 255, so averaging grey levels first would erode their edges. A pixel of the result
    is manipulated where at least half of the area that it covers is.

    Args:
        patch: a square, HWC uint8 RGB, [0, 255].
        size: side of the crop in pixels.
        threshold: grey level above which a pixel counts; about 10, as H.264 leaves noise of some levels in the black.
    """
    on = (patch.max(axis=2) > threshold).astype(np.float32)
    method = cv2.INTER_AREA if patch.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(on, (size, size), interpolation=method) >= 0.5)


def mask_from_difference(fake: NDArray[np.uint8], original: NDArray[np.uint8], min_difference: int) -> Mask:
    """Where a fake's crop differs from its original's: max over channels of |fake - original| > `min_difference`.

    Holes are closed with a disc of 5 % of the crop's side: inside a manipulated region single pixels agree by chance.

    Args:
        fake, original: HWC uint8 RGB, [0, 255], the same square of the same frame.
        min_difference: in grey levels; compression alone makes several.
    """
    differs = cv2.absdiff(fake, original).max(axis=2) > min_difference
    diameter = max(3, round(0.05 * fake.shape[0]) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return np.asarray(cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, disc)).astype(bool)
