"""What can be told of a crop by two numbers: how sharp it is, and what it looks like."""

import cv2
import numpy as np
from numpy.typing import NDArray


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the luma, in squared grey levels; crop is HWC uint8 RGB. Near 0 = blurred."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def perceptual_hash(crop: NDArray[np.uint8]) -> int:
    """64 bits that stay nearly the same when a picture (HWC uint8 RGB) is compressed, resized or brightened.

    The signs of the 64 lowest cosine frequencies of the luma against their median; unlike pictures differ in about half
    of the bits, copies of one picture in a few.
    """
    luma = cv2.cvtColor(cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(luma.astype(np.float32))[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")
