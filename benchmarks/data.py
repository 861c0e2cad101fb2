"""Face crops out of videos: this pipeline against what people use today, on the same files: `make bench-data`.

Draws videos in FaceForensics++'s encoding (H.264 4:4:4, crf 23, a key frame every 250 frames) at three sizes, and has
each way take 32 crops of 299 px from each video. Every way runs in a process of its own on one core; medians over
rounds are printed. The others detect with facenet-pytorch's MTCNN on the whole frame, with its own smallest face (20
px) and, marked "60 px", with ours, and store crops as PNG.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from components.crop_faces import CropFaces, crop_faces
from components.extract_frames import ExtractFrames, extract_frames
from emd_core.faces.boxes import Detection, Square, crop_square, cut
from emd_core.faces.search import iou
from emd_core.sample.encode import VideoWriter
from emd_core.sample.scene import Take
from emd_core.storage.manifest import FACES, VIDEOS, read_manifest, write_manifest
from emd_core.video.decode import count_frames, decode, pick_frames

SIZES = {"480p": (640, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
CRF = 23
QUIET = 1.5  # camera noise and grain, grey levels: about 4 KB a frame at 480p, as FaceForensics++'s c23 videos have
PICKS, CROP, SCALE, MIN_FACE, THRESHOLD = 32, 299, 1.3, 60, 0.9
SPARSE = 4  # detect_every of the sparse mode

Image = NDArray[np.uint8]
Run = Callable[[list[Path], Path], int]  # videos, folder to write -> number of crops


def draw(folder: Path, videos: int, frames: int) -> None:
    """`videos` drawn people per size, once; what is there is kept."""
    for name, (width, height) in SIZES.items():
        for number in range(videos):
            path = folder / name / f"{number:03}.mp4"
            if path.exists():
                continue
            take = Take(seed=0, number=number, frames=frames, width=width, height=height)
            take.noise = take.grain = QUIET
            partial = path.with_suffix(".partial.mp4")
            with VideoWriter(partial, width, height, CRF) as video:
                for t in tqdm(range(frames), f"drawing {name} {path.name}"):
                    video.write(take.frame(t))
            partial.rename(path)


def ours(detect_every: int) -> Run:
    def run(videos: list[Path], out: Path) -> int:
        names = [path.stem for path in videos]
        table = pd.DataFrame({"video": [f"original/c23/{n}" for n in names], "target": names})
        table = table.assign(method="original", quality="c23", label=0, split="train", source="", mask_path="")
        table = table.assign(path=[path.name for path in videos], status="ok", reason="")
        (out / "videos").mkdir()
        write_manifest(out / "videos", table, VIDEOS, {})
        picking = ExtractFrames(train=PICKS, val=PICKS, test=PICKS, max_bad_share=0, workers=1, shard="1/1")
        cropping = CropFaces(
            detector="mtcnn",
            weights=None,
            size=CROP,
            scale=SCALE,
            min_face=MIN_FACE,
            detect_side=320,
            detect_every=detect_every,
            threshold=THRESHOLD,
            batch=16,
            max_bad_share=0,
            workers=1,
        )
        dataset = videos[0].parent
        extract_frames(picking, dataset=dataset, videos=out / "videos", frames=out / "frames")
        crop_faces(cropping, dataset=dataset, frames=out / "frames", faces=out / "faces")
        return int((read_manifest(out / "faces", FACES).table["status"] == "ok").sum())

    return run


def opencv_all(path: Path) -> Iterator[Image]:
    """Every frame is read and converted, the picked ones are kept."""
    capture = cv2.VideoCapture(str(path))
    wanted = set(pick_frames(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), PICKS))
    index = 0
    while (read := capture.read())[0]:
        if index in wanted:
            yield np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), dtype=np.uint8)
        index += 1


def opencv_seek(path: Path) -> Iterator[Image]:
    """CAP_PROP_POS_FRAMES before each picked frame."""
    capture = cv2.VideoCapture(str(path))
    for index in pick_frames(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), PICKS):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        found, frame = capture.read()
        if found:
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def decord(path: Path) -> Iterator[Image]:
    from decord import VideoReader

    reader = VideoReader(str(path), num_threads=1)
    yield from reader.get_batch(pick_frames(len(reader), PICKS)).asnumpy()


def with_mtcnn(read: Callable[[Path], Iterator[Image]], min_face: int) -> Run:
    """What the field's scripts do: detect on each frame, cut the largest face, store it as PNG."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True, min_face_size=min_face, thresholds=[0.6, 0.7, THRESHOLD])

    def run(videos: list[Path], out: Path) -> int:
        n = 0
        for path in videos:
            for frame in read(path):
                boxes, _ = detector.detect(frame)
                if boxes is None:
                    continue
                largest = max(boxes.tolist(), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
                square: Square = crop_square(Detection(*largest, 1), frame.shape[1], frame.shape[0], SCALE)
                crop = cv2.cvtColor(cut(frame, square, CROP), cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(out / f"{path.stem}-{n:05}.png"), crop)
                n += 1
        return n

    return run


def decoding(videos: list[Path], out: Path) -> int:
    """The picked frames, as a full decode gives them, and nothing else: the floor of our ways."""
    return sum(1 for path in videos for _ in decode(path, pick_frames(count_frames(path), PICKS)))


WAYS: dict[str, Callable[[], Run]] = {
    "EMD, decoding alone (no crops)": lambda: decoding,
    "EMD, every 4th frame searched": lambda: ours(SPARSE),
    "EMD, exact": lambda: ours(1),
    "OpenCV, all frames + MTCNN": lambda: with_mtcnn(opencv_all, 20),
    "OpenCV, all frames + MTCNN 60 px": lambda: with_mtcnn(opencv_all, MIN_FACE),
    "OpenCV, POS_FRAMES + MTCNN": lambda: with_mtcnn(opencv_seek, 20),
    "decord + MTCNN": lambda: with_mtcnn(decord, 20),
}
REFERENCE = "OpenCV, all frames + MTCNN"


def measure(way: str, videos: list[Path], rounds: int) -> dict[str, Any]:
    """One way on one core: medians over rounds."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    run = WAYS[way]()

    def once(chosen: list[Path]) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            crops = run(chosen, Path(folder))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            written = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        return {"crops": crops, "wall": wall / crops, "cpu": cpu / crops, "bytes": written / crops}

    results = [once(videos) for _ in range(rounds)]
    # Not ru_maxrss, which a process takes over from the one that started it.
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    return {key: median(r[key] for r in results) for key in results[0]} | {"peak": peak * 1024}


def compare_boxes(videos: list[Path]) -> tuple[float, float]:
    """Mean and least IoU of the squares of the sparse with those of the exact mode."""
    squares = []
    with tempfile.TemporaryDirectory() as folder:
        for every in (1, SPARSE):
            out = Path(folder) / str(every)
            out.mkdir()
            ours(every)(videos, out)
            table = read_manifest(out / "faces", FACES).table
            rows = table[["x", "y", "side"]].to_numpy(float)
            squares.append([Detection(x, y, x + side, y + side, 1) for x, y, side in rows])
    shared = [iou(a, b) for a, b in zip(*squares, strict=True)]
    return float(np.mean(shared)), min(shared)


def show(results: dict[str, dict[str, dict[str, Any]]], boxes: dict[str, tuple[float, float]]) -> None:
    for size, ways in results.items():
        reference = ways[REFERENCE]
        table = Table(title=f"{size}: {int(reference['crops'])} crops, one core")
        for column in ("way", "crops/s", "faster", "CPU s/crop", "less CPU", "peak memory", "KB written/crop"):
            table.add_column(column, justify="left" if column == "way" else "right")
        for way, r in ways.items():
            table.add_row(
                way,
                f"{1 / r['wall']:.1f}",
                f"{reference['wall'] / r['wall']:.2f}x",
                f"{r['cpu']:.4f}",
                f"{reference['cpu'] / r['cpu']:.2f}x",
                f"{r['peak'] / 2**20:.0f} MiB",
                f"{r['bytes'] / 1000:.0f}",
            )
        Console().print(table)
        print("squares of sparse against exact mode: IoU {:.3f} on average, {:.3f} at least\n".format(*boxes[size]))


def main(
    folder: Annotated[Path, typer.Option(help="Where the drawn videos lie.")] = Path("data/bench"),
    videos: Annotated[int, typer.Option(help="Videos per size.")] = 1,
    frames: Annotated[int, typer.Option(help="Frames per video.")] = 300,
    rounds: Annotated[int, typer.Option(help="Rounds of which the median is taken.")] = 3,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
    way: Annotated[str, typer.Option(hidden=True)] = "",
    size: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Compare ways from videos to face crops."""
    if way:
        print(json.dumps(measure(way, sorted((folder / size).glob("*.mp4"))[:videos], rounds)))
        return
    draw(folder, videos, frames)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    boxes = {}
    for name in SIZES:
        files = sorted((folder / name).glob("*.mp4"))[:videos]
        kilobytes = sum(f.stat().st_size for f in files) / sum(map(count_frames, files)) / 1000
        print(f"{name}: {len(files)} videos of {count_frames(files[0])} frames, {kilobytes:.1f} KB a frame")
        results[name] = {}
        for one in tqdm(WAYS, name):
            command = [sys.executable, "-m", "benchmarks.data", "--folder", str(folder), "--way", one, "--size", name]
            command += ["--rounds", str(rounds), "--videos", str(videos)]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            results[name][one] = json.loads(done.stdout.strip().splitlines()[-1])
        boxes[name] = compare_boxes(files)
    show(results, boxes)
    if out:
        out.write_text(json.dumps({"ways": results, "boxes": boxes}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
