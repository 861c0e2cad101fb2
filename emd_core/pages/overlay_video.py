"""overlay.mp4: a video with what was found drawn in, as browsers and phones play it."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from emd_core.pages.looks import Course
from emd_core.pages.marks import Picture, draw_mark, mark
from emd_core.pages.sound import Sound
from emd_core.pages.timeline import Timeline
from emd_core.storage.atomic import atomic_file
from emd_core.verdicts.judge import Judgement
from emd_core.video.decode import BrokenVideo, Clip, measure, open_video, video_stream
from emd_core.video.rgb import Upright

LARGEST, SMALLEST = 1280, 640  # px of the longer side; a smaller video is enlarged, or words would cover it
TIMELINE, LOWEST = 0.12, 80  # share of the picture's height, and px at least
OPTIONS = {"crf": "23", "preset": "veryfast"}


def write_overlay(path: Path, source: Path, judgement: Judgement) -> None:
    """Write the video `source` with the boxes, masks and scores of its faces, and below it the scores over time.

    A source that breaks in the middle gives the video up to there. Memory does not grow with its length.

    Raises:
        BrokenVideo: not one frame can be decoded.
    """
    with atomic_file(path) as temporary:
        try:
            clip, first = measure(source), _first_frame(source)
            with open_video(source) as given, av.open(str(temporary), "w", "mp4", {"movflags": "faststart"}) as made:
                _write(made, given, clip, first, judgement)
        except av.FFmpegError as error:
            raise BrokenVideo(f"it cannot be drawn into ({error.strerror})") from None


def _first_frame(source: Path) -> av.VideoFrame:
    """By it the size is known; a header may lie, and says nothing of how a phone was held."""
    with open_video(source) as given:
        for packet in _packets(given, [video_stream(given)]):
            for frame in _decoded(packet):
                return frame
    raise BrokenVideo("no frame can be decoded")


def _write(
    made: av.container.OutputContainer,
    given: av.container.InputContainer,
    clip: Clip,
    first: av.VideoFrame,
    judgement: Judgement,
) -> None:
    stream = video_stream(given)
    origin = Fraction(given.start_time or 0, av.time_base)
    film = Film(made, stream, clip, origin, first, judgement)
    heard = [s for s in given.streams.audio if s.codec_context][:1]
    sounds = {s.index: Sound(s, made, origin) for s in heard}
    for packet in _packets(given, [stream, *heard]):
        if packet.stream.index in sounds:
            made.mux(list(sounds[packet.stream.index].packets(packet)))
            continue
        for frame in _decoded(packet):
            made.mux(film.packets(frame))
    made.mux(film.packets(None))


def _packets(given: av.container.InputContainer, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """As far as the file can be read; an empty one ends each stream."""
    for stream in streams:
        stream.codec_context.thread_count = 1
    ended = False
    demuxed = given.demux(streams)
    while not ended:
        try:
            yield next(demuxed)
        except (StopIteration, av.FFmpegError):
            ended = True


def _decoded(packet: av.Packet) -> list[av.VideoFrame]:
    """The frames of a packet; none where it is damaged."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
    except av.FFmpegError:
        return []


class Film:
    """The pictures of the video that is made."""

    def __init__(
        self,
        made: av.container.OutputContainer,
        given: av.VideoStream,
        clip: Clip,
        origin: Fraction,
        first: av.VideoFrame,
        judgement: Judgement,
    ) -> None:
        media = judgement.verdict.media
        assert media is not None and given.time_base is not None
        self._upright, self._to_rgb, self._to_yuv = Upright(), VideoReformatter(), VideoReformatter()
        self._size = (first.width, first.height)
        turned = self._upright(first)
        longer = max(turned.width, turned.height)
        scale = min(max(longer, SMALLEST), LARGEST) / longer
        self._width, self._height = (max(2, 2 * round(side * scale / 2)) for side in (turned.width, turned.height))
        self._scale = self._width / media.width
        below = 2 * round(max(LOWEST, TIMELINE * self._height) / 2)
        self._timeline = Timeline(judgement.verdict, media, self._width, below)
        self._courses = [
            (track, Course(track, looks, media))
            for track, looks in zip(judgement.verdict.tracks, judgement.looks, strict=True)
        ]
        self._tick, self._early = given.time_base, round(origin / given.time_base)
        self._clip, self._number, self._last = clip, 0, -1
        self._out = made.add_stream("libx264", rate=given.average_rate or 25, options=OPTIONS)
        self._out.width, self._out.height = self._width, self._height + below
        self._out.pix_fmt = "yuv420p"
        codec = self._out.codec_context
        codec.time_base, codec.thread_count = self._tick, 1
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def packets(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        """What to write for a frame of the source; None ends it."""
        if frame is None:
            return self._out.encode(None)
        if (frame.width, frame.height) != self._size:
            return []
        time_s = self._clip.time_s(self._number, frame.pts)  # as in the verdict
        time = frame.pts if frame.pts is not None else self._clip.start + round(time_s / self._tick)
        self._number += 1
        image = self._drawn(self._upright(frame), time_s)
        drawn = self._to_yuv.reformat(
            av.VideoFrame.from_numpy_buffer(image, "rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        self._last = max(time - self._early, self._last + 1)  # a time must be later than the one before
        drawn.pts, drawn.time_base = self._last, self._tick
        return self._out.encode(drawn)

    def _drawn(self, frame: av.VideoFrame, time_s: float) -> Picture:
        how = Interpolation.AREA if self._scale < 1 else Interpolation.BICUBIC
        small = self._to_rgb.reformat(frame, self._width, self._height, "rgb24", interpolation=how)
        image = np.asarray(small.to_ndarray(), np.uint8)
        for track, course in self._courses:
            if place := course.at(time_s):
                x, y, side = (value * self._scale for value in (place.x, place.y, place.side))
                draw_mark(image, mark(track, place.look, (x, y, side), time_s))
        return np.concatenate([image, self._timeline.at(time_s)])
