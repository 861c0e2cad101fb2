"""What every training loop here shares: its state on disk, written after each epoch."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from emd_core.atomic import atomic_file

EpochHook = Callable[[int, dict[str, float]], None]
STATE = "checkpoint.pt"  # file that a training goes on from, of no use once it is over


class Resumable:
    """Model, optimizer and the metrics of every finished epoch; restored whole or not at all."""

    def __init__(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._path, self._model, self._optimizer = path, model, optimizer
        self.history: list[dict[str, float]] = []
        self.best: list[float] = []

    def restore(self) -> list[dict[str, float]]:
        """Load the state a killed run left, if any; returns the metrics of its finished epochs."""
        if self._path.exists():
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.history, self.best = state["history"], state["best"]
        return self.history

    def is_best(self, *score: float) -> bool:
        """Whether `score` (compared from left to right) beats all epochs so far."""
        if self.best and list(score) <= self.best:
            return False
        self.best = list(score)
        return True

    def save(self, metrics: dict[str, float]) -> None:
        self.history.append(metrics)
        with atomic_file(self._path) as temporary:
            torch.save(
                {
                    "model": self._model.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "history": self.history,
                    "best": self.best,
                },
                temporary,
            )
