"""Many equal rows in one .npy file, which `np.load(path, mmap_mode="r")` opens anywhere."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from emd_core.reading import reading


class RowWriter:
    """Appends uint8 rows of one shape to an .npy file whose length is not known beforehand.

    NumPy pads its header so that the first axis can grow in place; the true length is written on closing.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], length: int = 0) -> None:
        """Make the file, or go on behind its first `length` rows; what follows them is dropped."""
        self.row_shape = row_shape
        self.length = length
        self._file = path.open("r+b" if length else "wb")
        self._write_header()
        self._file.truncate(self._file.tell() + length * math.prod(row_shape))
        self._file.seek(0, os.SEEK_END)

    def extend(self, rows: NDArray[np.uint8]) -> int:
        """Write rows; the index of the first."""
        if rows.shape[1:] != self.row_shape or rows.dtype != np.uint8:
            raise ValueError(f"{self._file.name}: a row is {self.row_shape} uint8, got {rows.shape[1:]} {rows.dtype}")
        first = self.length
        self._file.write(np.ascontiguousarray(rows).data)
        self.length += len(rows)
        return first

    def sync(self) -> None:
        """All rows are on the disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        shape = (self.length, *self.row_shape)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class RowFiles:
    """The .npy files of one folder, all with rows of one shape; each is made with its first row."""

    def __init__(self, folder: Path, row_shape: tuple[int, ...], lengths: Mapping[str, int] | None = None) -> None:
        """Go on in files that have `lengths` good rows; others are new."""
        self.folder = folder
        self.row_shape = row_shape
        self._writers = {name: RowWriter(folder / name, row_shape, length) for name, length in (lengths or {}).items()}

    def extend(self, file: str, rows: NDArray[np.uint8]) -> int:
        """Write rows to the end of `file`; the index of the first in it."""
        if file not in self._writers:
            self._writers[file] = RowWriter(self.folder / file, self.row_shape)
        return self._writers[file].extend(rows)

    def sync(self) -> dict[str, int]:
        """Put all rows on the disk; the lengths of the files."""
        for writer in self._writers.values():
            writer.sync()
        return {name: writer.length for name, writer in self._writers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()


def open_rows(path: Path) -> NDArray[np.uint8]:
    """The rows of such a file, memory-mapped: only the rows that are indexed are read."""
    with reading(path, "a complete .npy file", f"make the folder {path.parent} anew"):
        rows: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return rows
