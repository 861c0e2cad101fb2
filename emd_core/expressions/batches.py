"""Batches that worker processes read."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from emd_core.errors import UserError


class Batches(DataLoader[Any]):
    """A DataLoader out of whose workers a refusal comes as it is; torch makes a traceback of its message."""

    def __init__(self, dataset: Dataset[Any], batch_size: int, **more: Any) -> None:
        super().__init__(_Refusals(dataset), batch_size, collate_fn=_collate, **more)

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

    def __getitem__(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except UserError as refusal:
            return refusal


def _collate(items: list[Any]) -> Any:
    return next((item for item in items if isinstance(item, UserError)), None) or default_collate(items)
