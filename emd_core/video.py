"""Videos in and out, bit for bit.

Frames are stored as they leave the decoder: one FFV1 file per video in the source's own pixel format, every frame
a key frame. RGB is made on reading, by the same conversion as from the source, so it is identical to the last bit.
`benchmarks/containers.py` holds the measurement behind this choice.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


class BrokenVideo(Exception):
    """A video that cannot be used; the message is the reason that its row carries."""


def count_frames(path: Path) -> int:
    """Number of frames, by counting packets: what a header promises need not be there.

    Raises:
        BrokenVideo: the file is empty, no video, without a video stream, or cut off.
    """
    if path.stat().st_size == 0:
        raise BrokenVideo("the file is empty")
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container)
            n = 0
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise BrokenVideo(f"the file is cut off in frame {n} of {stream.frames or 'an unknown number'}")
                n += packet.size > 0
    except av.FFmpegError as error:
        raise BrokenVideo(f"no readable video ({error.strerror})") from None
    if n == 0:
        raise BrokenVideo("the video stream has no frames")
    return n


def pick_frames(n_frames: int, n: int) -> list[int]:
    """Indices of `n` frames spread evenly over `n_frames`: the middles of `n` equal parts; all if there are fewer."""
    if n_frames <= n:
        return list(range(n_frames))
    return [(2 * i + 1) * n_frames // (2 * n) for i in range(n)]


def decode(path: Path, wanted: Iterable[int]) -> Iterator[av.VideoFrame]:
    """The frames with the `wanted` indices (0 = first shown), in order, as the decoder gives them.

    One sequential pass that ends with the last wanted frame: seeking to each frame is several times slower, as it
    decodes from the previous key frame (250 frames apart in FaceForensics++) again and again.

    Raises:
        BrokenVideo: the video cannot be decoded as far as the last wanted frame, or its size changes.
    """
    chosen = set(wanted)
    last = max(chosen, default=-1)
    size: tuple[int, int] | None = None
    index = -1
    if not chosen:
        return
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container)
            stream.thread_count = 1  # parallel over videos, which scales better than threads within one
            for index, frame in enumerate(container.decode(stream)):
                if index in chosen:
                    size = size or (frame.width, frame.height)
                    if (frame.width, frame.height) != size:
                        raise BrokenVideo(f"its frame size changes from {size} to {(frame.width, frame.height)}")
                    yield frame
                if index == last:
                    return
    except av.FFmpegError as error:
        raise BrokenVideo(f"frame {index + 1} cannot be decoded ({error.strerror})") from None
    raise BrokenVideo(f"it ends after {index + 1} frames, frame {last} was wanted")


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """HWC uint8 RGB, [0, 255]."""
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))


def read_frames(path: Path, wanted: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
    """The `wanted` frames of a video in order, each HWC uint8 RGB, [0, 255]. Raises like `decode`."""
    for frame in decode(path, wanted):
        yield to_rgb(frame)


def write_frames(path: Path, frames: Iterable[av.VideoFrame]) -> None:
    """Store decoded frames without loss; `read_frames(path, …)` gives the RGB that the frames themselves give."""
    formats = {f.name for f in av.Codec("ffv1", "w").video_formats or ()}
    # bitexact: no random id and no date in the file, so that equal frames give equal bytes.
    with av.open(str(path), "w", format="matroska", options={"fflags": "bitexact"}) as container:
        stream = None
        for index, frame in enumerate(frames):
            if frame.format.name not in formats:
                frame = frame.reformat(format="rgb24").reformat(format="bgr0")
            if stream is None:
                stream = container.add_stream("ffv1", rate=25, options={"level": "3", "g": "1", "slicecrc": "1"})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.thread_count = 1
                # Without these two the reader would convert to RGB by another matrix.
                stream.codec_context.colorspace = frame.colorspace
                stream.codec_context.color_range = frame.color_range
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise BrokenVideo("the file has no video stream")
    return container.streams.video[0]
