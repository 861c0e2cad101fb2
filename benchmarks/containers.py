"""In which container frames, crops and masks cost least: `python -m benchmarks.containers CLIP [CLIP …]`.

Picks frames evenly from each clip as the pipeline does, and prints bytes, seconds to write all, milliseconds to read
one at random (the file opened each time) and seconds to read all in order. Every container is checked to be lossless.
Crops are the middle square of each frame at 299 px; masks are an ellipse in it.
"""

import argparse
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.faces.boxes import Square, cut
from emd_core.storage.masks import pack, unpack
from emd_core.video.decode import count_frames, decode, pick_frames, read_frames
from emd_core.video.rgb import RgbReader

CROP = 299  # px
Image = NDArray[np.uint8]


class Container(NamedTuple):
    name: str
    opens_with: str
    suffix: str
    write: Callable[[Path], None]
    read: Callable[[Path, int], Image]
    read_all: Callable[[Path], Sequence[Image] | Image]


def npy(images: Sequence[Image]) -> Container:
    def read(path: Path, i: int) -> Image:
        return np.array(np.load(path, mmap_mode="r")[i])

    return Container("npy, memory-mapped", "np.load", ".npy", lambda p: np.save(p, np.stack(images)), read, np.load)


def png_zip(images: Sequence[Image]) -> Container:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for i, image in enumerate(images):
                archive.writestr(f"{i}.png", cv2.imencode(".png", image)[1].tobytes())

    def load(archive: zipfile.ZipFile, i: int) -> Image:
        data = np.frombuffer(archive.read(f"{i}.png"), dtype=np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), dtype=np.uint8)

    def read(path: Path, i: int) -> Image:
        with zipfile.ZipFile(path) as archive:
            return load(archive, i)

    def read_all(path: Path) -> list[Image]:
        with zipfile.ZipFile(path) as archive:
            return [load(archive, i) for i in range(len(images))]

    return Container("PNG in zip", "unzip, any viewer", ".zip", write, read, read_all)


def packed_npy(masks: Sequence[Image]) -> Container:
    def read_all(path: Path) -> Image:
        return unpack(np.load(path), CROP).astype(np.uint8) * np.uint8(255)

    def read(path: Path, i: int) -> Image:
        return unpack(np.load(path, mmap_mode="r")[i], CROP).astype(np.uint8) * np.uint8(255)

    def write(path: Path) -> None:
        np.save(path, np.stack([pack(mask > 0) for mask in masks]))

    return Container("npy of packed bits", "np.load, np.unpackbits", ".npy", write, read, read_all)


def ffv1(frames: Sequence[av.VideoFrame]) -> Container:
    return video("FFV1 in mkv, source pixel format", frames, "ffv1", {"level": "3", "g": "1", "slicecrc": "1"})


def x264(frames: Sequence[av.VideoFrame]) -> Container:
    return video("x264 -qp 0 in mkv, source pixel format", frames, "libx264", {"qp": "0"})


def video(name: str, frames: Sequence[av.VideoFrame], codec: str, options: dict[str, str]) -> Container:
    def write(path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height = frames[0].width, frames[0].height
            stream.pix_fmt = frames[0].format.name
            stream.thread_count = 1
            # Without these two the reader would convert to RGB by another matrix.
            stream.codec_context.colorspace = frames[0].colorspace
            stream.codec_context.color_range = frames[0].color_range
            for i, frame in enumerate(frames):
                frame.pts, frame.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    def read(path: Path, i: int) -> Image:
        return next(read_frames(path, [i]))

    def read_all(path: Path) -> list[Image]:
        return list(read_frames(path, range(len(frames))))

    return Container(name, "any player", ".mkv", write, read, read_all)


def measure(container: Container, images: Sequence[Image], folder: Path) -> tuple[int, float, float, float]:
    """Bytes, seconds to write all, milliseconds to read one at random, seconds to read all."""
    path = folder / f"rows{container.suffix}"
    start = time.perf_counter()
    container.write(path)
    written = time.perf_counter() - start
    order = np.random.default_rng(0).permutation(len(images))[:8]
    start = time.perf_counter()
    for i in order:
        container.read(path, int(i))
    one = (time.perf_counter() - start) / len(order)
    start = time.perf_counter()
    back = container.read_all(path)
    everything = time.perf_counter() - start
    if not all(np.array_equal(a, b) for a, b in zip(back, images, strict=True)):
        sys.exit(f"{container.name} is not lossless")
    size = path.stat().st_size
    path.unlink()
    return size, written, 1000 * one, everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=20, help="frames picked from each clip")
    args = parser.parse_args()
    for clip in args.clips:
        frames = list(decode(clip, pick_frames(count_frames(clip), args.frames)))
        images = [RgbReader().whole(frame) for frame in frames]
        height, width = images[0].shape[:2]
        side = min(width, height)
        crops = [cut(image, Square((width - side) // 2, (height - side) // 2, side), CROP) for image in images]
        mask = np.zeros((CROP, CROP), dtype=np.uint8)
        cv2.ellipse(mask, (CROP // 2, CROP // 2), (90, 120), 0, 0, 360, 255, -1)
        masks = [mask] * len(images)
        what: list[tuple[str, Sequence[Image], list[Container]]] = [
            (f"frames {width} x {height} {frames[0].format.name}", images, [ffv1(frames), x264(frames)]),
            (f"crops {CROP} x {CROP} RGB", crops, []),
            (f"masks {CROP} x {CROP}", masks, [packed_npy(masks)]),
        ]
        for title, rows, more in what:
            print(f"\n{clip.name}, {len(rows)} {title}")
            print(f"{'':40}{'KiB':>9}{'write s':>9}{'one ms':>9}{'all s':>9}  opens with")
            for container in [npy(rows), png_zip(rows), *more]:
                with tempfile.TemporaryDirectory() as folder:
                    size, written, one, everything = measure(container, rows, Path(folder))
                print(
                    f"{container.name:40}{size / 1024:9.0f}{written:9.2f}{one:9.2f}{everything:9.2f}  "
                    f"{container.opens_with}"
                )


if __name__ == "__main__":
    main()
