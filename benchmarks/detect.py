"""Verdicts against what people use today, on the same files: `make bench-detect`, after `make demo`.

The reference is a loop in the manner of FaceForensics' `detect_from_video`: OpenCV decodes every frame, MTCNN of
facenet-pytorch looks at each whole frame, Xception at 299 px judges its largest face in fp32, and the frames' mean is
the answer.
Here the same network, with its decoder and in the number format that `auto` means, judges either every frame too or
those of `params.yaml`. One process on one core each, by its CPU time; drawn videos in FaceForensics++'s encoding.

Then: whether the demo's model gives the same answers both ways, the peak memory of verdicts with a marked video, and
the time of the command for 10, 100 and 1,000 short videos.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import av
import cv2
import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.data import SIZES, draw
from components.command_line.exits import exit_on_user_error
from components.detect import Detect
from components.judging.model import software
from components.judging.work import Job, judge_file
from emd_core.config import read_params, section
from emd_core.faces.boxes import Detection, crop_square, cut
from emd_core.models.build import build_detector
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.detector import Detector
from emd_core.models.emd import EMD, EMDConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.storage.manifest import OK, VIDEOS, read_manifest
from emd_core.verdicts.judge import Judge
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.verdict import Model
from emd_core.video.decode import count_frames

MODEL = Model(name="", reference="", digest="", network="", decision="", data="", originals=None, limits=[])
CHECKPOINT_ONLY = """
import pathlib, sys
from benchmarks.detect import save_random
save_random(pathlib.Path(sys.argv[1]), expression=True)
"""
RATES = {299: (6, 12, 18)}  # atrous rates by size of the network


def main(
    data: Annotated[Path, typer.Option(help="Folder for the drawn videos; kept.")] = Path("data/bench-detect"),
    frames: Annotated[int, typer.Option(min=25, help="Frames per drawn video.")] = 250,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    demo: Annotated[Path, typer.Option(help="Where `make demo` was run.")] = Path("."),
    part: Annotated[str, typer.Option(help="speed, answers, memory or scale; all without it.")] = "",
) -> None:
    console = Console(width=120)
    parts: dict[str, Callable[[], None]] = {
        "speed": lambda: show_speed(console, data, frames, rounds),
        "answers": lambda: show_answers(console, demo),
        "memory": lambda: show_memory(console, data, frames),
        "scale": lambda: show_scale(console, demo),
    }
    for name, run in parts.items():
        if part in ("", name):
            run()


def show_speed(console: Console, data: Path, frames: int, rounds: int) -> None:
    draw(data, 1, frames)
    shown = Table(
        "video",
        "reference",
        "same frames",
        "",
        "default density",
        "",
        title="CPU seconds per video, times faster",
    )
    for size in SIZES:
        video = data / size / "000.mp4"
        ways = {"reference": "", "every": "every", "default": "default"}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name in ways:
                seconds[name].append(in_process(name, video)["seconds"])
        took = {name: median(values) for name, values in seconds.items()}
        ratios = [took["reference"] / took[name] for name in ("every", "default")]
        shown.add_row(
            f"{size}, {frames} frames",
            f"{took['reference']:.1f}",
            f"{took['every']:.1f}",
            f"{ratios[0]:.1f}x",
            f"{took['default']:.2f}",
            f"{ratios[1]:.1f}x",
        )
    console.print(shown)


def in_process(way: str, video: Path, *more: str) -> dict[str, Any]:
    """What a way prints of itself, in a process of its own on one core."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
    command = [sys.executable, "-m", "benchmarks.detect", way, str(video), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_way(way: str, video: Path) -> None:
    """In a process of its own: judge the video once to warm up what is loaded, then measure."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if way == "memory":
            subprocess.run([sys.executable, "-c", CHECKPOINT_ONLY, folder], check=True)  # its memory is not counted
            judge = Judge(Path(folder) / CHECKPOINT, default_looking(), MODEL, software(), precision="auto")
            job = Job(video.absolute(), video.name, Path(folder) / "out")
            judge_file(judge, "all", job, lambda share: None)
            print(json.dumps({"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
            return
        judge = random_judge(Path(folder), expression=False)
        if way == "every":
            judge.looking = judge.looking.model_copy(update={"frames": count_frames(video)})
        run: Callable[[Path], Any] = Reference(judge.network.detector) if way == "reference" else judge
        judge.network.detector(torch.zeros(1, 3, 299, 299))
        begin = time.process_time()  # of one core, so that other load on the machine matters little
        run(video)
        print(json.dumps({"seconds": time.process_time() - begin}))


def random_judge(folder: Path, *, expression: bool) -> Judge:
    """Judges with the paper's network at 299 px with random weights, with its expression stream or without."""
    save_random(folder, expression=expression)
    return Judge(folder / CHECKPOINT, default_looking(), MODEL, software(), precision="auto")


def save_random(folder: Path, *, expression: bool) -> None:
    torch.manual_seed(0)
    config = EMDConfig(kind="emd", size=299, expression=expression, atrous_rates=RATES[299], pixel_loss="mean")
    network = build_detector(config, ESR(ESRConfig(size=96, branches=9)) if expression else None)
    save_detector(folder / CHECKPOINT, network)


def default_looking(params: Path = Path("params.yaml")) -> Looking:
    cfg = section(read_params(params), "detect", Detect, where=str(params))
    return Looking(**{name: getattr(cfg, name) for name in Looking.model_fields})


class Reference:
    """The loop that people use."""

    def __init__(self, network: Detector) -> None:
        from facenet_pytorch import MTCNN

        self.network, self.faces = network.eval(), MTCNN(keep_all=True, select_largest=True)

    @torch.inference_mode()
    def __call__(self, path: Path) -> float:
        """The mean of the frames' scores; NaN without a face."""
        capture, scores = cv2.VideoCapture(str(path)), []
        while (read := capture.read())[0]:
            frame = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            boxes, _ = self.faces.detect(frame)
            if boxes is None:
                continue
            largest = max(boxes.tolist(), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
            square = crop_square(Detection(*largest, 1), frame.shape[1], frame.shape[0], 1.3)
            crop = torch.from_numpy(cut(np.asarray(frame, np.uint8), square, self.network.side))
            scores.append(self.score(crop.permute(2, 0, 1)[None].float() / 255))
        return float(np.mean(scores)) if scores else float("nan")

    def score(self, crop_13SS: torch.Tensor) -> float:
        """What the network says; of Xception its encoder and head alone, as the loop knows no masks."""
        if isinstance(self.network, EMD) and self.network.fer is None:
            _, latent = self.network.encoder(crop_13SS * 2 - 1, None)
            logits = self.network.fc(latent.mean(dim=(2, 3)))
        else:
            logits, _ = self.network(crop_13SS)
        return float(logits.softmax(1)[0, 1])


def show_answers(console: Console, demo: Path) -> None:
    """The demo's model on its test videos: the reference's mean against 0.5, and the verdict's."""
    table = read_manifest(demo / "data/videos", VIDEOS).table
    table = table[(table["split"] == "test") & (table["status"] == OK)]
    checkpoint = demo / "models/emd" / CHECKPOINT
    reference = Reference(load_detector(checkpoint))
    judge = Judge(checkpoint, default_looking(demo / "params.yaml"), MODEL, software(), precision="auto")
    same, right = 0, {"reference": 0, "verdict": 0}
    for row in table.to_dict("records"):
        path = demo / "data/ffpp" / row["path"]
        theirs, (track, *_) = reference(path) > 0.5, judge(path).verdict.tracks
        ours = np.mean([seen.score for seen in track.seen]) > 0.5
        same += theirs == ours
        right["reference"] += theirs == bool(row["label"])
        right["verdict"] += ours == bool(row["label"])
    n = len(table)
    console.print(
        f"Mean of the frames against 0.5, on {n} test videos of the sample: the same in {same} of {n}; right in "
        f"{right['reference']} (every frame, fp32) and {right['verdict']} (default density)."
    )


def show_memory(console: Console, data: Path, frames: int) -> None:
    draw(data, 1, frames)
    for minutes in (1, 4):
        video = repeated(data / "1080p/000.mp4", data / f"1080p-{minutes}min.mp4", minutes * 60)
        peak = in_process("memory", video)["mib"]
        console.print(
            f"1080p, {minutes} min, EMD with ESR-9 at 299 px, report and marked video: at most {peak:.0f} MiB"
        )


def repeated(source: Path, target: Path, seconds: int) -> Path:
    """The source's packets again and again, until so many seconds are full."""
    if target.exists():
        return target
    partial = target.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as out:
        stream, offset = None, 0
        while stream is None or offset * stream.time_base < seconds:
            with av.open(str(source)) as container:
                stream = stream or out.add_stream_from_template(container.streams.video[0])
                length = container.streams.video[0].duration or 0
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.pts, packet.dts = (packet.pts or 0) + offset, (packet.dts or 0) + offset
                        packet.stream = stream
                        out.mux(packet)
                offset += length
    partial.rename(target)
    return target


def show_scale(console: Console, demo: Path) -> None:
    table = read_manifest(demo / "data/videos", VIDEOS).table
    sources = [demo / "data/ffpp" / path for path in table.loc[table["status"] == OK, "path"]]
    before = None
    for n in (10, 100, 1000):
        with tempfile.TemporaryDirectory() as folder:
            videos = Path(folder) / "videos"
            videos.mkdir()
            for i in range(n):
                os.symlink(sources[i % len(sources)].resolve(), videos / f"{i:04}.mp4")
            command = [sys.executable, "-m", "components", "detect", str(videos), "--out", str(Path(folder) / "out")]
            command += ["--model", str(demo / "models/emd"), "--set", "detect.overlays=none"]
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            took = time.perf_counter() - begin
        growth = "" if before is None else f", {took / before:.1f} times the time of a tenth"
        console.print(f"{n} videos of 30 frames: {took:.1f} s, {took / n:.2f} s each{growth}")
        before = took


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in ("reference", "every", "default", "memory"):
        run_way(sys.argv[1], Path(sys.argv[2]))
    else:
        exit_on_user_error(lambda: typer.run(main))
