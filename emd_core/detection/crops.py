"""Face crops, masks and labels, read by batch from memory-mapped files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emd_core.errors import UserError
from emd_core.storage.arrays import open_rows
from emd_core.storage.manifest import FACES, MASKS, OK, ORIGINAL, read_manifest, require_made_from
from emd_core.storage.masks import unpack


@dataclass(frozen=True)
class Batch:
    """`image` uint8 RGB B3HW, `mask` bool B1HW, `label` int64 B (1 = manipulated), `index` rows of the table, B.

    `known` bool B: whether the mask is known; where it is not, `mask` is all False and means nothing. The masks of
    blends are float32 in [0, 1].
    """

    image: Tensor
    mask: Tensor
    label: Tensor
    known: Tensor
    index: np.ndarray

    def pin_memory(self) -> "Batch":
        """In memory from which a GPU copies while it computes; torch's loader calls this."""
        names = ("image", "mask", "label", "known")
        return replace(self, **{name: getattr(self, name).pin_memory() for name in names})


class FaceCrops:
    """The usable crops of one split; `table` has the manifest's columns, one row per crop.

    `methods` and `qualities` leave only those (None: all); the originals of the qualities always stay.
    """

    def __init__(
        self,
        faces: Path,
        masks: Path,
        split: str,
        methods: Sequence[str] | None = None,
        qualities: Sequence[str] | None = None,
    ) -> None:
        manifest = read_manifest(masks, MASKS)
        require_made_from(manifest, "masks", faces=read_manifest(faces, FACES))
        usable = (manifest.table["status"] == OK) & (manifest.table["split"] == split)
        table: pd.DataFrame = manifest.table[usable]
        if table.empty:
            raise UserError(f"{masks} has no usable crop in split '{split}'; check the splits of the dataset.")
        for column, wanted in (("method", methods), ("quality", qualities)):
            if wanted is not None:
                absent = sorted(set(wanted) - set(table[column]))
                if absent:
                    found = ", ".join(sorted(table[column].unique()))
                    raise UserError(
                        f"the {split} split of {masks} has no {column} {', '.join(absent)}; choose from {found}."
                    )
                table = table[table[column].isin([*wanted, ORIGINAL])]
        if table.empty:
            raise UserError(
                f"the {split} split of {masks} has no usable original, and no crop of methods {methods} in qualities "
                f"{qualities}; choose others, or add originals."
            )
        self.table = table.reset_index(drop=True)
        files = self.table["file"].unique()
        self._crops = {name: open_rows(faces / name) for name in files}
        self._masks = {name: open_rows(masks / name) for name in files}
        self.size: int = self._crops[files[0]].shape[1]

    def __len__(self) -> int:
        return len(self.table)

    def read(self, index: np.ndarray) -> Batch:
        """The crops of these rows of the table."""
        rows = self.table.iloc[index]
        image = np.empty((len(index), self.size, self.size, 3), np.uint8)
        mask = np.empty((len(index), self.size, self.size), bool)
        for i, (file, row) in enumerate(zip(rows["file"], rows["row"], strict=True)):
            image[i] = self._crops[file][row]
            mask[i] = unpack(self._masks[file][row], self.size)
        return Batch(
            torch.from_numpy(image).permute(0, 3, 1, 2),
            torch.from_numpy(mask).unsqueeze(1),
            torch.from_numpy(rows["label"].to_numpy(np.int64)),
            torch.from_numpy(rows["mask_share"].notna().to_numpy(copy=True)),
            index,
        )

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """Batches in the given order of rows."""
        for start in range(0, len(order), batch_size):
            yield self.read(order[start : start + batch_size])


def balanced_order(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A shuffled epoch in which both classes are equally frequent: the rarer class's rows are repeated."""
    real, fake = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    longer = max(len(real), len(fake))
    order = np.concatenate([_repeat(real, longer, rng), _repeat(fake, longer, rng)])
    return rng.permutation(order)


def _repeat(rows: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` rows, each as often as any other up to one."""
    whole, rest = divmod(length, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]])
