"""Batches that worker processes read."""

import os
from collections.abc import Iterator
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset, default_collate

from emd_core.errors import UserError


class Batches(DataLoader[Any]):
    """A DataLoader out of whose workers a refusal comes as it is; torch makes a traceback of its message."""

    def __init__(self, dataset: Dataset[Any], batch_size: int | None, **more: Any) -> None:
        """`batch_size` None: the dataset's items are batches."""
        collate = _collate if batch_size else _as_it_is
        super().__init__(_Refusals(dataset), batch_size, collate_fn=collate, worker_init_fn=_start, **more)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            for batch in super().__iter__():
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"one of the {self.num_workers} workers was killed, most likely as the memory or the shared memory "
                "(/dev/shm, `docker run --shm-size`) was used up; start again with fewer workers, or 0: what is done "
                "is kept."
            ) from None


class _Refusals(Dataset[Any]):
    """The items of a dataset, or what was refused in place of one."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._dataset[index]
        except UserError as refusal:
            return refusal


def _collate(items: list[Any]) -> Any:
    return next((item for item in items if isinstance(item, UserError)), None) or default_collate(items)


def _as_it_is(item: Any) -> Any:
    return item


def _start(_worker: int) -> None:
    """What a worker does first."""
    cv2.setNumThreads(0)  # OpenCV's threads do not survive the fork that made the worker; torch switches off its own
    # torchrun and shells send signals to the whole group. The training decides when to stop, and ends its workers then.
    os.setpgid(0, 0)
