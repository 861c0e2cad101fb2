"""Videos as frames, decoding and converting no more than is asked for.

FaceForensics++ is H.264 with a key frame every 250 frames: what a picked frame needs is decoded in one pass, frames
that no other frame refers to are skipped, and nothing after the last picked one of a key frame's stretch is read.
`make bench-data` measures it; tests hold the picked frames against a full decode, bit for bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from emd_core.video.rgb import RgbReader, Upright

HELD_BYTES = 512 * 2**20  # of the picked frames of one video that may stay in memory
LISTS = {"concat", "dash", "hls", "sdp"}  # formats that name other files or addresses


class BrokenVideo(Exception):
    """A video that cannot be used; the message is the reason that its row carries."""


def check_opens(path: Path) -> None:
    """Read a file's header. Raises BrokenVideo: the file is gone, empty, no video, or of an unknown codec."""
    _require_content(path)
    try:
        with open_video(path) as container:
            video_stream(container)
    except av.FFmpegError as error:
        raise BrokenVideo(f"no readable video ({error.strerror})") from None


class Clip(NamedTuple):
    """How long a video is."""

    frames: int
    start: int  # presentation time of the first frame, in `unit`
    unit: float  # seconds; 0 where the times are not known
    seconds: float  # from the first frame's beginning to the last one's end

    def time_s(self, number: int, pts: int | None) -> float:
        """When a frame is shown, from the beginning of the first one; by its number where its time is not known."""
        if pts is None or not self.unit:
            return number * self.seconds / self.frames
        return max(0.0, (pts - self.start) * self.unit)


def count_frames(path: Path) -> int:
    """Number of frames. Raises like `measure`."""
    return measure(path).frames


def measure(path: Path) -> Clip:
    """How long a video is, by its packets: what a header promises need not be there.

    Raises:
        BrokenVideo: the file is empty, no video, without a video stream, or cut off.
    """
    _require_content(path)
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            n, first, end = 0, None, 0
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise BrokenVideo(f"the file is cut off in frame {n} of {stream.frames or 'an unknown number'}")
                if _is_shown(packet):
                    n += 1
                    if packet.pts is not None:
                        first = packet.pts if first is None else min(first, packet.pts)
                        end = max(end, packet.pts + (packet.duration or 0))
            unit, rate = float(stream.time_base or 0), float(stream.average_rate or stream.guessed_rate or 25)
    except av.FFmpegError as error:
        raise BrokenVideo(f"no readable video ({error.strerror})") from None
    if n == 0:
        raise BrokenVideo("the video stream has no frames")
    if first is None or end <= first or not unit:
        return Clip(n, 0, 0.0, n / rate)
    return Clip(n, first, unit, (end - first) * unit)


def pick_frames(n_frames: int, n: int) -> list[int]:
    """Indices of `n` frames spread evenly over `n_frames`: the middles of `n` equal parts; all if there are fewer."""
    if n_frames <= n:
        return list(range(n_frames))
    return [(2 * i + 1) * n_frames // (2 * n) for i in range(n)]


def decode(path: Path, wanted: Iterable[int]) -> Iterator[av.VideoFrame]:
    """The frames with the `wanted` indices (0 = first shown), in order and upright, else as the decoder gives them.

    One thread: parallel over videos scales better than threads within one.

    Raises:
        BrokenVideo: the video cannot be decoded as far as the last wanted frame, its size changes, or it is damaged
            before a wanted frame and has not recovered at a key frame.
    """
    indices = sorted(set(wanted))
    if not indices:
        return
    _require_content(path)
    size: tuple[int, int] | None = None
    done, upright = 0, Upright()
    try:
        for frame in _decode(path, indices):
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise BrokenVideo(f"its frame size changes from {size} to {(frame.width, frame.height)}")
            yield upright(frame)
            done += 1
    except av.FFmpegError as error:
        raise BrokenVideo(f"frame {indices[done]} cannot be decoded ({error.strerror})") from None


def _decode(path: Path, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
    """The wanted frames: by the short way as far as it leads, the rest by a full pass.

    The file is read twice, as what a stretch needs is known from its packets' times; none of them is kept.
    """
    done = 0
    with open_video(path) as container:
        stream = video_stream(container)
        packets = [_about(packet, stream.codec_context) for packet in container.demux(stream) if packet.size]
        times = frame_times([p.pts for p in packets if p.shown], stream.codec_context)
        h264 = stream.codec_context.name == "h264"  # of the others nobody knows where a stretch begins
    if h264 and wanted[-1] < len(times) == len(packets) and packets[0].refresh:
        picked = [times[i] for i in wanted]
        with open_video(path) as container:
            stream = video_stream(container)
            stream.thread_count = 1
            demuxed = (packet for packet in container.demux(stream) if packet.size)
            for frame in _decode_stretches(stream.codec_context, demuxed, packets, set(picked)):
                if frame.pts != picked[done]:
                    break  # the stream is not what its packets said
                yield frame
                done += 1
    if done < len(wanted):
        yield from _decode_all(path, wanted[done:], times)


class About(NamedTuple):
    """What is kept of a packet."""

    pts: int | None
    shown: bool
    refresh: bool  # an instantaneous one (IDR): no frame from here on refers to an earlier one


def _about(packet: av.Packet, codec: av.CodecContext) -> About:
    return About(packet.pts, _is_shown(packet), codec.name == "h264" and is_refresh(packet, codec))


def frame_times(given: Sequence[int | None], codec: av.VideoCodecContext) -> list[int]:
    """Presentation times of the frames that are shown, ascending; empty where there are none to rely on.

    That is: times are missing or not unique, or they follow the order of decoding though frames are shown in another
    one, as in an AVI, which has no times. `given` are those of the packets that are shown.
    """
    times = [time for time in given if time is not None]
    ascending = sorted(set(times))
    return ascending if len(ascending) == len(given) and not (codec.has_b_frames and times == ascending) else []


def _decode_stretches(
    decoder: av.VideoCodecContext, packets: Iterable[av.Packet], about: Sequence[About], picked: set[int]
) -> Iterator[av.VideoFrame]:
    """The frames of the `picked` times; `about` are the packets as they were seen before.

    A stretch goes from one instantaneous refresh (IDR) to the next; no frame refers to anything outside its stretch
    (other key frames promise less). Each is decoded as far as its last picked frame, if it has any.
    """
    last = _last_picked(about, picked)
    for i, packet in zip(range(max(last) + 1), packets, strict=False):
        if i > last[i]:
            continue
        # A frame that no other refers to need not be decoded unless it is wanted itself.
        decoder.skip_frame = "DEFAULT" if packet.pts in picked else "NONREF"
        yield from _wanted(decoder.decode(packet), picked)
        if i == last[i]:
            yield from _wanted(decoder.decode(None), picked)
            decoder.flush_buffers()


def _last_picked(about: Sequence[About], picked: set[int]) -> list[int]:
    """Of each packet, the place of the last picked one in its stretch; -1 where that has none."""
    places, last = [], -1
    for i in reversed(range(len(about))):
        last = i if last < 0 and about[i].pts in picked else last
        places.append(last)
        last = -1 if about[i].refresh else last
    return places[::-1]


def _wanted(frames: Iterable[av.VideoFrame], times: set[int]) -> Iterator[av.VideoFrame]:
    """Those of the `times`. Others of the stretch were decoded as they are referred to, so none may be damaged."""
    for frame in frames:
        if frame.is_corrupt:
            raise BrokenVideo("it is damaged in a picked frame or in one that it refers to")
        if frame.pts in times:
            yield frame


def is_refresh(packet: av.Packet, codec: av.CodecContext) -> bool:
    """Whether an H.264 packet holds a slice of an instantaneous refresh (unit type 5)."""
    if not packet.is_keyframe:
        return False
    data, header = bytes(packet), codec.extradata
    if not header or header[0] != 1:  # units follow start codes (Annex B)
        return any(unit[:1] and unit[0] & 0x1F == 5 for unit in data.split(b"\x00\x00\x01")[1:])
    at, length = 0, (header[4] & 3) + 1  # MP4's avcC: units follow their length, in so many bytes
    while at + length < len(data):
        if data[at + length] & 0x1F == 5:
            return True
        at += length + int.from_bytes(data[at : at + length], "big")
    return False


def _decode_all(path: Path, wanted: Sequence[int], times: Sequence[int]) -> Iterator[av.VideoFrame]:
    """The wanted frames by a full pass.

    A frame's index follows from its time, as decoders leave out what they cannot decode, such as what precedes the
    first key frame; where `times` is empty, the frames are counted.
    """
    index_at: dict[int | None, int] = {time: i for i, time in enumerate(times)}
    done, index, damaged = 0, -1, False
    with open_video(path) as container:
        stream = video_stream(container)
        stream.thread_count = 1
        for frame in container.decode(stream):
            index = index_at.get(frame.pts, index + 1)
            damaged = frame.is_corrupt or (damaged and not frame.key_frame)
            if index > wanted[done] or (index == wanted[done] and damaged):
                raise BrokenVideo(f"frame {wanted[done]} is damaged or what it refers to is missing")
            if index == wanted[done]:
                yield frame
                done += 1
            if done == len(wanted):
                return
    raise BrokenVideo(f"it ends after {index + 1} frames, frame {wanted[-1]} was wanted")


class PickedFrames:
    """The picked frames of a video, to be gone through more than once.

    They are held in memory where they fit into HELD_BYTES, and decoded anew each time where not. Raises like `decode`.

    Attributes:
        size: width and height of the frames, px.
    """

    def __init__(self, path: Path, picked: Sequence[int]) -> None:
        self.path, self.picked = path, picked
        frames = decode(path, picked)
        first = next(frames)
        self.size = (first.width, first.height)
        fits = sum(plane.buffer_size for plane in first.planes) * len(picked) <= HELD_BYTES
        self._held = [first, *frames] if fits else None

    def __iter__(self) -> Iterator[av.VideoFrame]:
        return decode(self.path, self.picked) if self._held is None else iter(self._held)


def read_frames(path: Path, wanted: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
    """The `wanted` frames of a video in order, each HWC uint8 RGB, [0, 255]. Raises like `decode`."""
    reader = RgbReader()
    for frame in decode(path, wanted):
        yield reader.whole(frame)


def _require_content(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BrokenVideo(f"the file cannot be opened ({error.strerror})") from None
    if size == 0:
        raise BrokenVideo("the file is empty")


def _is_shown(packet: av.Packet) -> bool:
    return packet.size > 0 and not packet.is_discard


def open_video(path: Path) -> av.container.InputContainer:
    """A file that is no list of others. Raises BrokenVideo where it is one, av.FFmpegError where it is no video."""
    # An absolute path, as a name with a colon may pass for an address. Titles and the like may be in any encoding.
    container = av.open(str(path.absolute()), metadata_errors="replace")
    if LISTS & set(container.format.name.split(",")):
        container.close()
        raise BrokenVideo("it is a list of other files, no video")
    return container


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The largest one, and no cover picture. Raises BrokenVideo: there is none, or its codec is unknown."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise BrokenVideo("the file has no video stream")
    known = [s for s in streams if s.codec_context]
    if not known:
        raise BrokenVideo("its codec is unknown")
    return max(known, key=lambda s: s.width * s.height)
