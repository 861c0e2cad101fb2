"""The official FaceForensics++ folder layout as a table of videos.

    <root>/original_sequences/youtube/<quality>/videos/<target>.mp4
    <root>/manipulated_sequences/<method>/<quality>/videos/<target>_<source>.mp4
    <root>/manipulated_sequences/<method>/masks/videos/<target>_<source>.mp4    one set for all qualities
    <root>/splits/{train,val,test}.json                                         lists of id pairs [a, b]

<quality> is c0, c23 or c40. The download script calls uncompressed videos raw, an older one c0, and an older one still
has no folder youtube: each is found.

A pair [a, b] stands for the originals a and b and the fakes a_b and b_a of every method. Fake a_b is video a with
b's expression or identity put in; it shares a's background, frames and split.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.rows import Row, require_known, require_layout, video_row, videos_table
from emd_core.errors import UserError
from emd_core.reading import read_json, reading
from emd_core.storage.listing import Files
from emd_core.storage.manifest import ORIGINAL

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
QUALITIES = ("c0", "c23", "c40")
SPLITS = ("train", "val", "test")

Pairs = dict[str, list[tuple[str, str]]]


def read_splits(root: Path) -> Pairs:
    """Split name -> id pairs; an id that stands in two splits is refused, for the test set would leak."""
    pairs: Pairs = {}
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / "splits" / f"{split}.json"
        told = ('a list of id pairs like [["071", "054"], …]', "put the official split files there")
        listed = read_json(path, *told)
        with reading(path, *told):
            pairs[split] = [(a, b) for a, b in listed]
            ids = {video_id for pair in pairs[split] for video_id in pair}
            if not all(isinstance(video_id, str) for video_id in ids):
                raise TypeError("an id is not a string")
        for video_id in sorted(ids):
            if video_id in split_of:
                raise UserError(
                    f"{path} lists id {video_id}, which is in split '{split_of[video_id]}' too; a video may be in one "
                    "split only, or the test set leaks into training: remove it from one of them."
                )
            split_of[video_id] = split
    return pairs


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a FaceForensics++ root.

    Args:
        root: the dataset folder.
        methods: manipulations to take, out of METHODS; the originals are always taken.
        qualities: compressions to take, out of QUALITIES.

    Returns:
        One row per video that the splits name, status "ok" or "missing". An original stands before the fakes
        that were made from it at the same quality, so that those groups are contiguous.

    Raises:
        UserError: an unknown method or quality, no such layout under `root`, or bad split files.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, QUALITIES)
    require_layout(root, "FaceForensics++", ["original_sequences", "manipulated_sequences", "splits"])
    pairs = read_splits(root)
    if not any(pairs.values()):
        raise UserError(f"the split files in {root / 'splits'} name no video; put the dataset's official ones there.")
    files = Files(root)
    rows = [
        row
        for quality in qualities
        for split, listed in pairs.items()
        for a, b in listed
        for target, source in ((a, b), (b, a))
        for row in _group(files, methods, quality, split, target, source)
    ]
    return videos_table(rows, root)


def quality_folders(quality: str) -> tuple[str, ...]:
    """Names that a quality's folder may have."""
    return ("c0", "raw") if quality == "c0" else (quality,)


def original_paths(quality: str, target: str) -> list[str]:
    """Where an original may lie, relative to the root."""
    parts = ("original_sequences/youtube", "original_sequences")
    return [f"{part}/{folder}/videos/{target}.mp4" for part in parts for folder in quality_folders(quality)]


def _group(files: Files, methods: Sequence[str], quality: str, split: str, target: str, source: str) -> Iterator[Row]:
    """The row of original `target`, then one row per method of the fake that was made from it."""
    about = {"quality": quality, "split": split, "target": target, "named_by": f"split '{split}'"}
    yield video_row(files, original_paths(quality, target), method=ORIGINAL, source="", name=target, **about)
    name = f"{target}_{source}"
    for method in methods:
        folder = f"manipulated_sequences/{method}"
        paths = [f"{folder}/{quality_folder}/videos/{name}.mp4" for quality_folder in quality_folders(quality)]
        mask = f"{folder}/masks/videos/{name}.mp4"
        yield video_row(files, paths, method=method, source=source, name=name, mask_path=mask, **about)
