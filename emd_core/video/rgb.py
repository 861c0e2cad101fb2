"""Decoded frames upright and as RGB, converting no more than is asked for."""

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

# Pixels per chroma sample, across and down, of the formats whose planes can be cut before they are converted.
CHROMA = {"yuv444p": (1, 1), "yuvj444p": (1, 1), "yuv422p": (2, 1), "yuv420p": (2, 2), "yuvj420p": (2, 2)}
# FFmpeg's filters that turn a frame upright, by the degrees against the clock that its header asks for.
TURNS = {90: ["transpose=cclock"], -90: ["transpose=clock"], 180: ["hflip", "vflip"], -180: ["hflip", "vflip"]}


class Upright:
    """Turns the frames of one video as its header asks players to, such as those of a phone that was held upright."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        if frame.rotation not in TURNS:
            return frame
        if self._graph is None:
            self._graph = graph = av.filter.Graph()
            nodes = [graph.add_buffer(None, frame.width, frame.height, frame.format, time_base=frame.time_base)]
            nodes += [graph.add(*turn.split("=")) for turn in TURNS[frame.rotation]]
            graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        self._graph.push(frame)
        turned = self._graph.pull()
        assert isinstance(turned, av.VideoFrame)
        return turned


class RgbReader:
    """Frames of one video to HWC uint8 RGB, [0, 255]; swscale's set-up, as dear as a conversion, is kept between."""

    def __init__(self) -> None:
        self._whole, self._part, self._reduced = VideoReformatter(), VideoReformatter(), VideoReformatter()

    def whole(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        return np.asarray(self._whole.reformat(frame, format="rgb24").to_ndarray(), dtype=np.uint8)

    def reduced(self, frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        """The frame shrunk to width x height by averaging areas."""
        small = self._reduced.reformat(frame, width, height, "rgb24", interpolation=Interpolation.AREA)
        return np.asarray(small.to_ndarray(), dtype=np.uint8)

    def part(self, frame: av.VideoFrame, x: int, y: int, side: int, room: int) -> NDArray[np.uint8]:
        """The square of `side` px at (x, y): the very pixels of `whole`, without converting most of the others.

        `room` px is the largest side that will be asked for, so that one set-up serves the whole video.
        """
        across, down = CHROMA.get(frame.format.name, (0, 0))
        room += 2 + room % 2  # even, and two more as the corner is moved to a whole chroma sample
        if not across or frame.width % across or frame.height % down or room > min(frame.width, frame.height):
            return self.whole(frame)[y : y + side, x : x + side]
        left = min(x, frame.width - room) // across * across
        top = min(y, frame.height - room) // down * down
        part = av.VideoFrame(room, room, frame.format.name)
        part.colorspace, part.color_range = frame.colorspace, frame.color_range
        for i, (source, target) in enumerate(zip(frame.planes, part.planes, strict=True)):
            w, h = (across, down) if i else (1, 1)
            rows, columns = slice(top // h, (top + room) // h), slice(left // w, (left + room) // w)
            _pixels(target)[:, : room // w] = _pixels(source)[rows, columns]
        rgb = self._part.reformat(part, format="rgb24").to_ndarray()
        return np.asarray(rgb[y - top : y - top + side, x - left : x - left + side], dtype=np.uint8)


def _pixels(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    """A plane's samples, its padding included, without copying."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
