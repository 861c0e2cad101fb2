"""How fast a detector is fed: `make bench-training`, after `make demo`, with the recipe of --recipe.

Images a second of the loader alone, of the step alone (its batches lie in memory, changed beforehand), and of both, by
the number of workers; what share of the time the step waits for its data; and the memory of the training with its
workers (proportional set size, so that shared pages count once). The medians of --rounds interleaved rounds.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from emd_core.config import read_params, section
from emd_core.detection import training as core
from emd_core.detection.crops import Batch
from emd_core.detection.inputs import training_inputs
from emd_core.detection.learner import Learner
from emd_core.detection.loading import load, order_of
from emd_core.detection.recipe import PAPER, Recipe
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import pick_device, processor, resolve

WARM = 3  # steps that are not counted: the first are slower, and workers are ahead of them


class Bench:
    """A training whose steps and batches can be run apart."""

    def __init__(self, cfg: core.TrainEmd, recipe: Recipe, data: Path, fer: Path, steps: int) -> None:
        self.cfg, self.recipe, self.device = cfg, recipe, pick_device()
        train, _ = core.read_crops(cfg, data / "faces", data / "masks")
        label = train.table["label"].to_numpy()
        order = order_of(np.arange(len(train)), label, recipe, np.random.default_rng(0))
        self.order = np.resize(order, (steps + WARM) * cfg.batch_size)
        self.crops = train
        torch.manual_seed(0)
        self.model = core.make_detector(cfg, fer / CHECKPOINT).to(self.device).to(memory_format=torch.channels_last)
        theta = [p for p in self.model.parameters() if p.requires_grad]
        self.learner = Learner(self.model, torch.optim.Adam(theta, lr=cfg.lr, fused=True), self.recipe, cfg.precision)
        core.set_trainable(self.model, warmup=False)
        self.waited = 0.0

    def batches(self, workers: int) -> Iterator[Batch]:
        return load(self.crops, self.order, self.cfg.batch_size, self.recipe, (0, 0), 0, workers)

    def rate(self, items: Iterator[object]) -> float:
        """Images a second of what yields once for each batch."""
        for _ in islice(items, WARM):
            pass
        self.waited = 0.0
        started = time.perf_counter()
        count = sum(1 for _ in items)
        self._synchronise()
        self.seconds = time.perf_counter() - started
        return count * self.cfg.batch_size / self.seconds

    def learn(self, batches: Iterable[Batch]) -> Iterator[None]:
        """Steps of the optimizer."""
        inputs = training_inputs(self._watched(batches), torch.default_generator, self.device)
        yield from self.learner.learn(inputs, [])

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        iterator = iter(batches)
        while True:
            self._synchronise()
            started = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def megabytes() -> float:
    """Of this process and its children."""
    own = Path("/proc/self")
    children = [Path("/proc") / pid for task in own.glob("task/*/children") for pid in task.read_text().split()]
    lines = [line for p in (own, *children) for line in (p / "smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def training(
    data: Annotated[Path, typer.Option(help="Folder of faces and masks.")] = Path("data"),
    fer: Annotated[Path, typer.Option(help="Folder of the expression network.")] = Path("models/fer"),
    params: Annotated[Path, typer.Option(help="Its section train_emd is timed.")] = Path("params.yaml"),
    recipe: Annotated[Path, typer.Option(help="Its train_emd.recipe changes the crops.")] = Path("params/ffpp.yaml"),
    steps: Annotated[int, typer.Option(min=1)] = 30,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    most: Annotated[int, typer.Option(help="Workers at most.")] = 2,
) -> None:
    """Print the table."""
    cfg, of = (section(read_params(path), "train_emd", core.TrainEmd, str(path)) for path in (params, recipe))
    bench = Bench(cfg, of.recipe or PAPER, data, fer, steps)
    ready = list(bench.batches(0))
    number = resolve(cfg.precision, bench.device)
    print(f"{processor(bench.device)}, {torch.get_num_threads()} threads, {number}, batches of {cfg.batch_size}")
    alone: list[float] = []
    loaders: dict[int, list[float]] = {n: [] for n in range(most + 1)}
    both: dict[int, list[float]] = {n: [] for n in range(most + 1)}
    waits: dict[int, list[float]] = {n: [] for n in range(most + 1)}
    memory: dict[int, float] = {}
    for _ in tqdm(range(rounds), unit="round"):
        alone.append(bench.rate(bench.learn(ready)))
        for n in range(most + 1):
            loaders[n].append(bench.rate(bench.batches(n)))
            both[n].append(bench.rate(watched_memory(bench.learn(bench.batches(n)), memory, n)))
            waits[n].append(bench.waited / bench.seconds)
    step = median(alone)
    print(f"\nstep alone, batches in memory: {step:.1f} images/s\n")
    print("| workers | loader alone, images/s | with the step, images/s | of the step alone | waiting | memory, MB |")
    print("|---|---|---|---|---|---|")
    for n in range(most + 1):
        rate, wait = median(both[n]), median(waits[n])
        print(f"| {n} | {median(loaders[n]):.0f} | {rate:.1f} | {rate / step:.1%} | {wait:.1%} | {memory[n]:.0f} |")


def watched_memory(items: Iterator[None], memory: dict[int, float], n: int) -> Iterator[None]:
    """The items; the memory is looked at once, in the middle of the first round."""
    for i, item in enumerate(items):
        if i == WARM and n not in memory:
            memory[n] = megabytes()
        yield item


if __name__ == "__main__":
    typer.run(training)
