"""What logging costs a training: 10,000 points and 500 pictures, logged and not logged in turns, in one process.

Each step is a real one: forward and backward pass and Adam, of a small convolutional network. Rounds without logging
alternate with rounds with it; while a round is without, nothing is sent and the machine is not watched either, so
that every bit of work that logging makes falls into the rounds with it. Compared are the medians of the rounds, in
wall-clock time and in processor time of the whole process, which other work on the machine disturbs less.
"""

import os
import tempfile
import threading
import time
from statistics import median
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from torch import Tensor, nn

from components.tracking import delivery, system_metrics
from components.tracking.run import stage_run
from components.tracking.stage_run import StageRun
from emd_core.config import Config
from emd_core.sample.scene import Take

logging_on = threading.Event()


def pause_without_logging() -> None:
    """Let the threads that send and that watch the machine work only while `logging_on` is set."""
    empty, collect = delivery.empty, system_metrics.SystemMetrics.collect_metrics

    def empty_later(*arguments: Any) -> None:
        logging_on.wait()
        empty(*arguments)

    def collect_later(monitor: system_metrics.SystemMetrics) -> Any:
        logging_on.wait()
        return collect(monitor)

    delivery.empty = empty_later
    system_metrics.SystemMetrics.collect_metrics = collect_later  # type: ignore[method-assign]


class Training:
    """A network of `width` channels that learns noise, batches of 16 crops of 96 px."""

    def __init__(self, width: int) -> None:
        convolutions = [nn.Conv2d(a, b, 3, stride=2) for a, b in ((3, width), (width, 2 * width), (2 * width, width))]
        layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
        self.model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.image, self.label = torch.rand(16, 3, 96, 96), torch.randint(0, 2, (16,))

    def step(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.image), self.label)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def one_round(training: Training, steps: range, points: int, picture: np.ndarray, run: StageRun | None) -> np.ndarray:
    """Wall-clock and processor seconds of a step; with a run each logs `points` points and a picture."""
    if run is not None:
        logging_on.set()
    wall, cpu = time.perf_counter(), time.process_time()
    for step in steps:
        loss = float(training.step())
        if run is not None:
            run.log_metrics({f"train/m{i}": loss for i in range(points)}, step)
            run.log_image(picture, "val overlays/picture", step)
    seconds = np.array([time.perf_counter() - wall, time.process_time() - cpu]) / len(steps)
    logging_on.clear()
    return seconds


def main(
    rounds: Annotated[int, typer.Option(help="Of each kind.")] = 10,
    steps: Annotated[int, typer.Option(help="Of a round; each logs --points points and one picture.")] = 50,
    points: Annotated[int, typer.Option(help="Points of metrics in a step.")] = 20,
    size: Annotated[int, typer.Option(help="Side of a picture, px.")] = 299,
    width: Annotated[int, typer.Option(help="Of the network; 64: 0.1 s of a core for a step, 256: 1.3 s.")] = 256,
    uri: Annotated[str, typer.Option(help="Of an MLflow server; empty: SQLite in a temporary folder.")] = "",
) -> None:
    """Log to MLflow while a network learns, and not, in turns; print the ratio of the steps' times."""
    torch.set_num_threads(1)
    os.environ["EMD_PIPELINE_RUN"] = "benchmark"
    picture = cv2.resize(Take(seed=0, number=0, frames=1, width=480, height=480).frame(0), (size, size))
    training = Training(width)
    pause_without_logging()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = uri or f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)
        logging_on.set()
        with stage_run("train_emd", Config(), {}) as run:
            one_round(training, range(3), points, picture, None)
            off, on = [], []
            for i in range(rounds):
                off.append(one_round(training, range(steps), points, picture, None))
                on.append(one_round(training, range(i * steps, (i + 1) * steps), points, picture, run))
                print(f"round {i + 1}: {off[-1].round(4)} s without, {on[-1].round(4)} s with", flush=True)
            logging_on.set()
    logged = f"{rounds * steps * points} points, {rounds * steps} pictures of {size} px"
    print(f"{logged} to {'a server' if uri else 'SQLite'}; {rounds} rounds of each kind, {steps} steps in a round")
    for i, kind in enumerate(("wall-clock", "processor")):
        without, with_ = (median(r[i] for r in which) for which in (off, on))
        pairs = [100 * (b[i] / a[i] - 1) for a, b in zip(off, on, strict=True)]
        print(f"{kind} time of a step: {1000 * without:.1f} ms without, {1000 * with_:.1f} ms with logging")
        print(f"  slower by {median(pairs):.2f} % (median of pairs of rounds; {min(pairs):.1f} to {max(pairs):.1f})")


if __name__ == "__main__":
    typer.run(main)
