"""What every training loop here shares: its state on disk, and how it stops when it is told to."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from emd_core.errors import Preempted, UserError
from emd_core.models.parts.checkpoint import CHECKPOINT, require_whole
from emd_core.reading import reading
from emd_core.storage.atomic import atomic_file
from emd_core.training import distributed

T = TypeVar("T")
EpochHook = Callable[[int, dict[str, float]], None]
# After an epoch that this very process trained: its number, the model in eval mode, and what a repetition of the epoch
# need not repeat, such as its speed. Called before the EpochHook.
WatchHook = Callable[[int, nn.Module, dict[str, float]], None]
LOSSES_WATCHED = 20  # steps between two looks at whether the losses are finite
STATE = "checkpoint.pt"  # file that a training goes on from, of no use once it is over


def unwatched(epoch: int, model: nn.Module, figures: dict[str, float]) -> None:
    """The WatchHook that does nothing."""


class Resumable:
    """Model, optimizer and the metrics of every finished epoch; restored whole or not at all.

    Of an epoch that was begun also the losses of its steps so far, one number each, and the random numbers' state.
    """

    def __init__(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._path, self._model, self._optimizer = path, model, optimizer
        self._before = path.with_name(f"{path.name}.before")
        self.history: list[dict[str, float]] = []
        self.best: list[float] = []
        self.losses: list[Tensor] = []
        self._random: list[list[Tensor]] = []  # of each rank, of each generator

    def restore(self) -> list[dict[str, float]]:
        """Load the state a killed run left, if any; returns the metrics of its finished epochs.

        Rank 0 reads it and hands it to the others, whose machines may not see the folder.
        """
        state = distributed.on_main(self._read)
        if state is not None:
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.history, self.best = state["history"], state["best"]
            self.losses, self._random = state["losses"], state["random"]
        return self.history

    def restore_random(self, generators: Sequence[torch.Generator]) -> None:
        """Bring the generators to where the stopped epoch left them; they stay as they are in a fresh epoch."""
        if self._random:
            # Another number of ranks or another kind of device goes on too, with other random numbers.
            own = self._random[distributed.rank() % len(self._random)]
            for generator, state in zip(generators, own, strict=False):
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

    def save_within(self, losses: list[Tensor], generators: Sequence[torch.Generator]) -> None:
        """The state within an epoch, after a step (before the first there is none); all ranks must call it together."""
        if not losses:
            return
        self.losses = list(self.require_finite(losses))
        self._random = distributed.gather([generator.get_state() for generator in generators])
        self._write()

    def watch(self, losses: list[Tensor]) -> None:
        """After each step: are the newest losses finite? Asked now and then only, as a GPU has to wait for it."""
        if len(losses) % LOSSES_WATCHED == 0:
            self.require_finite(losses, len(losses) - LOSSES_WATCHED)

    def require_finite(self, losses: list[Tensor], since: int = 0) -> Tensor:
        """The losses of the epoch's steps from `since` on, means over the ranks; all refuse what is not finite."""
        means = distributed.mean(torch.stack(losses[since:])).cpu()
        for step in (~means.isfinite()).nonzero()[:1].flatten().tolist():
            raise UserError(
                f"the loss is {means[step]:g} in step {since + step + 1} of epoch {len(self.history) + 1}, at a "
                f"learning rate of {max(group['lr'] for group in self._optimizer.param_groups):g}: the training "
                "diverges; lower its learning rate, or compute in fp32 (what earlier epochs left stays)."
            )
        return means

    def _read(self) -> dict[str, Any] | None:
        """The newest state that is whole; what a power failure or a full disk cut off is put aside."""
        for path in (self._path, self._before):
            if not path.exists():
                continue
            try:
                return self._read_whole(path)
            except UserError as error:
                os.replace(path, aside := path.with_name(f"{path.name}.broken"))
                said = f"{str(error).partition(';')[0]}; {path.name} is now {aside.name}"
                goes_on = "the training goes on from the state before it, or anew where there is none"
                tqdm.write(f"warning: {said}, and {goes_on}.", file=sys.stderr)
        return None

    def _read_whole(self, path: Path) -> dict[str, Any]:
        with reading(path, "a state of this training"):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            best, _ = state["best"], [state[name] for name in ("optimizer", "history", "losses", "random")]
            own, kept = self._model.state_dict(), state["model"]
            if {name: x.shape for name, x in own.items()} != {name: x.shape for name, x in kept.items()}:
                raise ValueError("it is of another network")
        if best:
            require_whole(self._path.with_name(CHECKPOINT))  # the model that this state says was the best
        return state

    def _write(self) -> None:
        if not distributed.is_main():
            return
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "losses": self.losses,
            "random": self._random,
        }
        with atomic_file(self._path) as temporary:
            with temporary.open("wb") as file:  # torch tells nothing of a full disk where it opens the file itself
                torch.save(state, file)
            if self._path.exists():
                os.replace(self._path, self._before)


def seed_epoch(seed: int, device: torch.device) -> tuple[torch.Generator, list[torch.Generator]]:
    """Seed all random numbers; returns the generator of what all ranks draw alike, and all that are drawn from.

    Dropout must differ between the ranks. One process draws both from PyTorch's own generator.
    """
    torch.manual_seed(seed + 1_000_000 * distributed.rank())
    own = [torch.default_generator]
    if device.type == "cuda":
        own.append(torch.cuda.default_generators[device.index or 0])
    if distributed.world_size() == 1:
        return torch.default_generator, own
    alike = torch.Generator().manual_seed(seed)
    return alike, [*own, alike]


class Preemption:
    """Within its block SIGTERM (a node is taken away, a pod evicted) is noted; loops ask for it between their steps.

    SIGTERM does not reach every training (Kubeflow's launcher hands on no signal), so a loop can also ask when it is
    time to save, by the clock.
    """

    def __init__(self, message: str, save_every_s: float = math.inf) -> None:
        self._message, self._save_every_s = message, save_every_s
        self._saved = time.monotonic()
        self.requested = False

    def __enter__(self) -> "Preemption":
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True

    def check(self) -> bool:
        """Whether to save now; raises Preempted once SIGTERM came.

        All ranks must call it together; what it is time for on one of them, all do.
        """
        due = time.monotonic() - self._saved > self._save_every_s
        asked = distributed.highest(2 if self.requested else int(due))
        if asked == 2:
            raise Preempted(self._message)
        if asked:
            self._saved = time.monotonic()
        return bool(asked)

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The items; raises Preempted before the next one once SIGTERM came to this process."""
        for item in items:
            if self.requested:
                raise Preempted(self._message)
            yield item
