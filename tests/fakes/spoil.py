"""Ways to spoil a video file, or to make an odd one of it.

Each takes the file's path and the pictures that it shows, and returns the pictures that it shows then where they are
other ones.
"""

import os
import shutil
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tests.fakes import tiny
from tests.fakes.tiny import Image

Pictures = list[Image]
Spoil = Callable[[Path, Pictures], Pictures | None]


def encoded(suffix: str = ".mp4", **how: Any) -> Spoil:
    """The same pictures by another encoder or in another container, under the old name."""

    def spoil(path: Path, pictures: Pictures) -> None:
        tiny.write_mp4(path.with_name(f"other{suffix}"), pictures, **how).replace(path)

    return spoil


def showing(change: Callable[[Pictures], Pictures], **how: Any) -> Spoil:
    """Other pictures."""

    def spoil(path: Path, pictures: Pictures) -> Pictures:
        changed = change(pictures)
        tiny.write_mp4(path, changed, **how)
        return changed

    return spoil


def holding(content: bytes) -> Spoil:
    def spoil(path: Path, pictures: Pictures) -> None:
        path.write_bytes(content)

    return spoil


def picture(path: Path, pictures: Pictures) -> None:
    path.write_bytes(cv2.imencode(".jpg", pictures[0][..., ::-1])[1].tobytes())


def cut_before_index(path: Path, pictures: Pictures) -> None:
    tiny.cut_off(path)


def cut_after_index(path: Path, pictures: Pictures) -> None:
    tiny.cut_off(tiny.write_mp4(path, pictures, header_first=True), 0.9)


def with_bytes(old: bytes, new: bytes) -> Spoil:
    def spoil(path: Path, pictures: Pictures) -> None:
        path.write_bytes(path.read_bytes().replace(old, new))

    return spoil


def scribble(start: float, stop: float) -> Spoil:
    """Overwrite a stretch of the coded pictures of an MP4 file, given in shares of all; the index stays whole."""

    def spoil(path: Path, pictures: Pictures) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(b"mdat") + 4
        length = int.from_bytes(data[at - 8 : at - 4], "big") - 8
        first, last = at + int(start * length), at + int(stop * length)
        data[first:last] = np.random.default_rng(0).bytes(last - first)
        path.write_bytes(data)

    return spoil


def longer(path: Path, pictures: Pictures) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 5000)


def without_frames(path: Path, pictures: Pictures) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = tiny.HEIGHT, tiny.WIDTH, "yuv420p"
        container.start_encoding()


def sound_only(path: Path, pictures: Pictures) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def at_times(times: Iterable[int], base: Fraction, suffix: str = ".mp4", **options: str) -> Spoil:
    """The pictures shown at these times, in units of `base` seconds; those before 0 are not shown."""

    def spoil(path: Path, pictures: Pictures) -> Pictures:
        other = path.with_name(f"other{suffix}")
        shown = list(zip(pictures, times, strict=False))
        with av.open(str(other), "w", options=options) as container:
            stream = container.add_stream("libx264", rate=25, options={"bf": "0"}, time_base=base)
            stream.height, stream.width, stream.pix_fmt = tiny.HEIGHT, tiny.WIDTH, "yuv420p"
            stream.codec_context.time_base = base
            for image, time in shown:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = time, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        other.replace(path)
        return [image for image, time in shown if time >= 0]

    return spoil


def without_packets(gone: range, suffix: str = ".mp4", **how: Any) -> Spoil:
    """A stream from which packets were cut out (without B-frames: these pictures)."""

    def spoil(path: Path, pictures: Pictures) -> Pictures:
        whole = tiny.write_mp4(path.with_name("whole.mp4"), pictures, **how)
        other = path.with_name(f"other{suffix}")
        with av.open(str(whole)) as source, av.open(str(other), "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            for i, packet in enumerate(source.demux(video=0)):
                if packet.size and i not in gone:
                    packet.stream = stream
                    container.mux(packet)
        whole.unlink()
        other.replace(path)
        return [image for i, image in enumerate(pictures) if i not in gone]

    return spoil


def changing_size(path: Path, pictures: Pictures) -> None:
    """Two raw H.264 streams of different sizes, one after the other."""
    half = len(pictures) // 2
    data = b""
    for part in (pictures[:half], [enlarged(image, 160, 120) for image in pictures[half:]]):
        encoded(".h264", pix_fmt="yuv420p")(path, part)
        data += path.read_bytes()
    path.write_bytes(data)


def enlarged(image: Image, width: int, height: int) -> Image:
    return np.asarray(cv2.resize(image, (width, height)), dtype=np.uint8)


def turned(degrees: int) -> Spoil:
    """Stored turned, with the matrix in the header by which a player turns it back, as phones do."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]

    def spoil(path: Path, pictures: Pictures) -> None:
        tiny.write_mp4(path, [np.ascontiguousarray(np.rot90(image, degrees // 90)) for image in pictures])
        data = bytearray(path.read_bytes())
        at, one = data.index(b"tkhd") + 44, 1 << 16
        data[at : at + 36] = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
        path.write_bytes(data)

    return spoil


def with_second_stream(path: Path, pictures: Pictures) -> None:
    """A small black stream in front of the real one, as thumbnails are."""
    other = path.with_name("other.mkv")
    with av.open(str(other), "w") as container:
        streams = []
        for height, width in ((32, 32), (tiny.HEIGHT, tiny.WIDTH)):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append(stream)
        for image in pictures:
            for stream, shown in zip(streams, (np.zeros((32, 32, 3), np.uint8), image), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    other.replace(path)


def list_of_files(path: Path, pictures: Pictures) -> None:
    """A text that FFmpeg takes for a video: the files that it names, one after the other."""
    other = path.with_name(f"{path.stem}.mkv")
    shutil.copy(path, other)
    path.write_text(f"ffconcat version 1.0\nfile '{other.name}'\n")


def titled(path: Path, pictures: Pictures) -> None:
    """A title in Latin-1, which is no UTF-8."""
    other = path.with_name("other.avi")
    with av.open(str(other), "w") as container:
        container.metadata["title"] = "Zoe at the sea"
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = tiny.HEIGHT, tiny.WIDTH, "yuv420p"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(other.read_bytes().replace(b"Zoe at", "Zoë at".encode("latin-1")))
    other.unlink()


def folder(path: Path, pictures: Pictures) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, pictures: Pictures) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to(target: str) -> Spoil:
    def spoil(path: Path, pictures: Pictures) -> None:
        path.unlink()
        path.symlink_to(target)

    return spoil


def link_to_itself(path: Path, pictures: Pictures) -> None:
    link_to(path.name)(path, pictures)


def cached(path: Path, pictures: Pictures) -> None:
    """As DVC's cache of symlinks leaves a file: the bytes lie outside of the dataset, under another name."""
    cache = path.parents[5].with_name("cache")
    cache.mkdir(exist_ok=True)
    bytes_ = cache / str(abs(hash(path)))
    path.rename(bytes_)
    path.symlink_to(bytes_)


def gone(path: Path, pictures: Pictures) -> None:
    path.unlink()


def untouched(path: Path, pictures: Pictures) -> None:
    """Only its name is odd."""
