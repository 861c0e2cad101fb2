"""What happens to videos on their way: re-encoding, blur, noise, resizing, brightness. None moves a pixel.

A perturbation takes the crops of one video as a clip, NHWC uint8 RGB in order of time, and gives a clip of that shape.
Equal clips give equal clips. Lengths in pixels are those of a crop of 299 pixels and shrink with the crop, so that
they mean the same part of a face at every size.
"""

import zlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.errors import UserError

Clip = NDArray[np.uint8]
Perturbation = Callable[[Clip], Clip]
REFERENCE = 299  # px, the paper's crop


def h264(clip: Clip, crf: int) -> Clip:
    """Re-encoded by x264 (4:2:0) as a clip of its own.

    Picked frames lie far apart in their video, so less is predicted from frame to frame than in a real upload; the
    constant quality (crf) is what makes the damage comparable.
    """
    height, width = clip.shape[1:3]
    even = np.pad(clip, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # 4:2:0 halves the sides
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = even.shape[1:3]
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    # One thread and no macroblock tree: as in the sample's videos, equal frames give equal bytes.
    encoder.options = {"crf": str(crf), "preset": "medium", "threads": "1", "x264-params": "no-mbtree=1"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for index, image in enumerate(even):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return np.stack([frame.to_ndarray(format="rgb24")[:height, :width] for frame in frames])


def jpeg(image: Clip, quality: int) -> Clip:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def blur(image: Clip, sigma: float) -> Clip:
    """Gaussian of `sigma` pixels of a 299-pixel crop; next to nothing where that is under 0.4 of the crop's own."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * len(image) / REFERENCE), np.uint8)


def noise(image: Clip, sigma: float) -> Clip:
    """Gaussian of `sigma` grey levels, drawn from a seed that is the crop's checksum."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image).tobytes()))
    return np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def resize(image: Clip, factor: float) -> Clip:
    """Smaller by `factor` and back."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (int(width / factor), int(height / factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def gamma(image: Clip, exponent: float) -> Clip:
    """Brighter below 1, darker above."""
    return np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)[image]


def _each(change: Callable[..., Clip], **strength: float) -> Perturbation:
    """A change of single crops (HWC), for clips."""
    return lambda clip: np.stack([change(image, **strength) for image in clip])


PERTURBATIONS: dict[str, Perturbation] = {
    "h264_crf23": partial(h264, crf=23),
    "h264_crf32": partial(h264, crf=32),
    "h264_crf40": partial(h264, crf=40),
    "jpeg_q75": _each(jpeg, quality=75),
    "jpeg_q30": _each(jpeg, quality=30),
    "blur_s1": _each(blur, sigma=1),
    "blur_s2": _each(blur, sigma=2),
    "noise_s5": _each(noise, sigma=5),
    "noise_s15": _each(noise, sigma=15),
    "resize_half": _each(resize, factor=2),
    "resize_quarter": _each(resize, factor=4),
    "gamma_0.7": _each(gamma, exponent=0.7),
    "gamma_1.4": _each(gamma, exponent=1.4),
}


def require_known(names: Iterable[str]) -> None:
    """Refuse names that are no perturbation."""
    if unknown := sorted(set(names) - set(PERTURBATIONS)):
        raise UserError(
            f"evaluate.perturbations names {', '.join(unknown)}, which is not known; choose from "
            f"{', '.join(PERTURBATIONS)}."
        )
