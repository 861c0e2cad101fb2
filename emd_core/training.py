"""What every training loop here shares: its state on disk, and how it stops when it is told to."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from emd_core.atomic import atomic_file
from emd_core.errors import Preempted

T = TypeVar("T")
EpochHook = Callable[[int, dict[str, float]], None]
STATE = "checkpoint.pt"  # file that a training goes on from, of no use once it is over


class Resumable:
    """Model, optimizer and the metrics of every finished epoch; restored whole or not at all.

    Of an epoch that was stopped also the losses of its steps so far, one number each, and the random numbers' state.
    """

    def __init__(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._path, self._model, self._optimizer = path, model, optimizer
        self.history: list[dict[str, float]] = []
        self.best: list[float] = []
        self.losses: list[Tensor] = []
        self._random: list[Tensor] = []

    def restore(self) -> list[dict[str, float]]:
        """Load the state a killed run left, if any; returns the metrics of its finished epochs."""
        if self._path.exists():
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.history, self.best = state["history"], state["best"]
            self.losses, self._random = state["losses"], state["random"]
        return self.history

    def restore_random(self, generators: Sequence[torch.Generator]) -> None:
        """Bring the generators to where the stopped epoch left them; they stay as they are in a fresh epoch."""
        for generator, state in zip(generators, self._random, strict=False):
            generator.set_state(state)

    def is_best(self, *score: float) -> bool:
        """Whether `score` (compared from left to right) beats all epochs so far."""
        if self.best and list(score) <= self.best:
            return False
        self.best = list(score)
        return True

    def save(self, metrics: dict[str, float]) -> None:
        """The state after an epoch."""
        self.history.append(metrics)
        self.losses, self._random = [], []
        self._write()

    def save_stopped(self, losses: list[Tensor], generators: Sequence[torch.Generator]) -> None:
        """The state within an epoch, after a step."""
        self.losses = [loss.cpu() for loss in losses]
        self._random = [generator.get_state() for generator in generators]
        self._write()

    def _write(self) -> None:
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "losses": self.losses,
            "random": self._random,
        }
        with atomic_file(self._path) as temporary:
            torch.save(state, temporary)


def random_generators(device: torch.device) -> list[torch.Generator]:
    """All that a training on this device draws from."""
    if device.type != "cuda":
        return [torch.default_generator]
    return [torch.default_generator, torch.cuda.default_generators[device.index or 0]]


class Preemption:
    """Within its block SIGTERM (a node is taken away, a pod evicted) is noted; loops ask for it between their steps."""

    def __init__(self, message: str) -> None:
        self._message = message
        self.requested = False

    def __enter__(self) -> "Preemption":
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True

    def check(self) -> None:
        """Raises Preempted once SIGTERM came."""
        if self.requested:
            raise Preempted(self._message)

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The items; raises Preempted before the next one once SIGTERM came."""
        for item in items:
            self.check()
            yield item
