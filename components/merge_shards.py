"""Join the crops and masks of several shards into one data set."""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from components import Ins, Out
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.storage.atomic import atomic_dir, link_or_copy
from emd_core.storage.manifest import FACES, MASKS, OK, Manifest, read_manifest, require_made_from, write_manifest


class MergeShards(Config):
    """Section merge_shards of params.yaml: nothing to choose."""


def merge_shards(cfg: MergeShards, *, faces_shards: Ins, masks_shards: Ins, faces: Out, masks: Out) -> None:
    """faces_shards, masks_shards: folders in the same order; their files keep their bytes, each below its number.

    Nothing is copied where a hard link can be made.
    """
    parts = [(read_manifest(f, FACES), read_manifest(m, MASKS)) for f, m in zip_shards(faces_shards, masks_shards)]
    for crops, truth in parts:
        require_made_from(truth, "masks_shards", faces=crops)
    require_disjoint([crops for crops, _ in parts])
    with atomic_dir(faces) as work:
        crops_table = join(faces_shards, [crops.table for crops, _ in parts], work)
        write_manifest(work, crops_table, FACES, {})
    with atomic_dir(masks) as work:
        write_manifest(
            work,
            join(masks_shards, [truth.table for _, truth in parts], work),
            MASKS,
            {"faces": read_manifest(faces, FACES)},
        )
    print(f"{len(parts)} shards joined: {(crops_table['status'] == OK).sum()} crops")


def zip_shards(faces: list[Path], masks: list[Path]) -> list[tuple[Path, Path]]:
    if len(faces) != len(masks):
        raise UserError(
            f"{len(faces)} folders of --faces_shards but {len(masks)} of --masks_shards; give them in pairs."
        )
    return list(zip(faces, masks, strict=True))


def require_disjoint(shards: list[Manifest]) -> None:
    """Refuse shards that hold one video twice: they are not parts of one whole."""
    videos = pd.concat([shard.table["video"].drop_duplicates() for shard in shards])
    twice = videos[videos.duplicated()]
    if len(twice):
        raise UserError(f"the shards hold {twice.iloc[0]} more than once; give each shard once, all from one run.")


def join(folders: list[Path], tables: list[pd.DataFrame], out: Path) -> pd.DataFrame:
    """Bring every file of the folders into `out / <number of the shard>`; the tables one after another."""
    for number, (folder, table) in enumerate(zip(folders, tables, strict=True), start=1):
        (out / str(number)).mkdir()
        for file in tqdm(sorted(table.loc[table["status"] == OK, "file"].unique()), f"shard {number}"):
            link_or_copy(folder / file, out / str(number) / file)
    named = [
        t.assign(file=t["file"].where(t["file"] == "", f"{n}/" + t["file"])) for n, t in enumerate(tables, start=1)
    ]
    return pd.concat(named, ignore_index=True)
