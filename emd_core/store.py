"""Many equal rows in one .npy file, which `np.load(path, mmap_mode="r")` opens anywhere."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from emd_core.errors import UserError


class RowWriter:
    """Appends uint8 rows of one shape to an .npy file whose length is not known beforehand.

    NumPy pads its header so that the first axis can grow in place; the true length is written on closing.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        self.row_shape = row_shape
        self.length = 0
        self._file = path.open("xb")
        self._write_header()

    def append(self, row: NDArray[np.uint8]) -> int:
        """Write one row and return its index."""
        if row.shape != self.row_shape or row.dtype != np.uint8:
            raise ValueError(f"{self._file.name}: a row is {self.row_shape} uint8, got {row.shape} {row.dtype}")
        self._file.write(np.ascontiguousarray(row).data)
        self.length += 1
        return self.length - 1

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        shape = (self.length, *self.row_shape)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class RowFiles:
    """The .npy files of one folder, all with rows of one shape; each is made with its first row."""

    def __init__(self, folder: Path, row_shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.row_shape = row_shape
        self._writers: dict[str, RowWriter] = {}

    def append(self, file: str, row: NDArray[np.uint8]) -> int:
        """Write one row to the end of `file` and return its index in it."""
        if file not in self._writers:
            self._writers[file] = RowWriter(self.folder / file, self.row_shape)
        return self._writers[file].append(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()


def open_rows(path: Path) -> NDArray[np.uint8]:
    """The rows of such a file, memory-mapped: only the rows that are indexed are read."""
    try:
        rows: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; make the folder {path.parent} anew.") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is no complete .npy file ({error}); make the folder {path.parent} anew.") from None
    return rows
