"""A table and its .npy files that grow item by item, and that a killed run can go on with."""

import json
import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emd_core.errors import UserError
from emd_core.reading import reading
from emd_core.storage.arrays import RowFiles
from emd_core.storage.atomic import atomic_file

Row = dict[Hashable, Any]
PARTS = "part-*.parquet"
ITEMS_PER_PART = 8


class Grown(NamedTuple):
    """What one item adds: table rows, and per file the array rows that they name by their place in these arrays."""

    rows: list[Row]
    arrays: Mapping[str, NDArray[np.uint8]]


def _whole_parts(folder: Path, row_shape: tuple[int, ...]) -> tuple[list[Path], dict[str, Any]]:
    """The parts up to the first that is not whole, as a power failure leaves it, and the state in the last of them."""
    whole: list[Path] = []
    state: dict[str, Any] = {}
    for path in sorted(folder.glob(PARTS)):
        try:
            with reading(path, "a part of a table"):
                found = json.loads(pq.read_table(path).schema.metadata[b"emd"])
                for name, length in found["lengths"].items():
                    if (folder / name).stat().st_size < length * math.prod(row_shape):
                        raise ValueError(f"{name} has fewer rows")
        except UserError as error:
            said = str(error).partition(";")[0]
            print(f"warning: {said}; the stage goes on from what was made before it.", file=sys.stderr)
            break
        whole.append(path)
        state = found
    return whole, state


class GrowingTable:
    """Rows are kept in parts, each written with the lengths that the .npy files had then.

    Attributes:
        items: number of items that are safe; a run that goes on starts with the one behind them.
    """

    def __init__(self, folder: Path, schema: pa.Schema, row_shape: tuple[int, ...]) -> None:
        self.folder, self.schema = folder, schema
        self._parts, state = _whole_parts(folder, row_shape)
        self.items: int = state.get("items", 0)
        self._files = RowFiles(folder, row_shape, state.get("lengths", {}))
        self._rows: list[Row] = []
        self._unsafe = 0

    def add(self, item: Grown) -> None:
        """Append an item's arrays and rows; `row` of the rows becomes the place in the file."""
        first = {file: self._files.extend(file, array) for file, array in item.arrays.items()}
        self._rows += [row | {"row": first[row["file"]] + row["row"]} if row["file"] else row for row in item.rows]
        self._unsafe += 1
        if self._unsafe == ITEMS_PER_PART:
            self._save()

    def _save(self) -> None:
        lengths = self._files.sync()
        self.items += self._unsafe
        rows = pd.DataFrame(self._rows, columns=self.schema.names)
        table = pa.Table.from_pandas(rows, self.schema, preserve_index=False)
        path = self.folder / PARTS.replace("*", f"{len(self._parts):06d}")
        with atomic_file(path) as partial:
            state = {"emd": json.dumps({"items": self.items, "lengths": lengths})}
            pq.write_table(table.replace_schema_metadata(state), partial)
        self._parts.append(path)
        self._rows, self._unsafe = [], 0

    def table(self) -> pd.DataFrame:
        """All rows; what was added is safe then."""
        if self._unsafe:
            self._save()
        parts: Sequence[pa.Table] = [pq.read_table(path).replace_schema_metadata(None) for path in self._parts]
        return pa.concat_tables(parts or [self.schema.empty_table()]).to_pandas()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)
