"""The folder layout of DeeperForensics-1.0 as a table of videos.

    <root>/manipulated_videos/<variant>/<target>_<actor>.mp4    the actor's face put into FaceForensics++ video <target>
    <root>/lists/splits/{train,val,test}.txt                    names of manipulated videos, one per line

Its originals are FaceForensics++'s at c23, which are not part of it: put (or link) that data set's `original_sequences`
into <root>. Without them there are no originals, and no fake's box comes from one. There are no masks.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.faceforensics import original_paths
from emd_core.datasets.rows import RELEASED, Row, require_known, require_layout, video_row, videos_table
from emd_core.errors import UserError
from emd_core.storage.listing import Files, read_lines
from emd_core.storage.manifest import ORIGINAL

METHODS = (
    "end_to_end",
    *(f"end_to_end_level_{level}" for level in range(1, 6)),
    "end_to_end_random_level",
    *(f"end_to_end_mix_{n}_distortions" for n in (2, 3, 4)),
    "reenact_postprocess",
)
SPLITS = ("train", "val", "test")
NAME = re.compile(r"(\d{3})_([MW]\d{3})")


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a DeeperForensics-1.0 root; `methods` are names of its variants.

    Raises:
        UserError: unknown methods or qualities, no such layout under `root`, or a bad list.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, [RELEASED])
    require_layout(root, "DeeperForensics-1.0", ["manipulated_videos", "lists/splits"])
    files = Files(root)
    return videos_table((row for split in SPLITS for row in _rows(files, methods, split)), root)


def _rows(files: Files, methods: Sequence[str], split: str) -> Iterator[Row]:
    path = files.root / "lists/splits" / f"{split}.txt"
    about = {"quality": RELEASED, "split": split, "named_by": f"lists/splits/{split}.txt"}
    with_originals = (files.root / "original_sequences").is_dir()
    for number, line in enumerate(read_lines(path), start=1):
        name = Path(line).stem
        found = NAME.fullmatch(name)
        if not found:
            raise UserError(
                f'{path}, line {number}: "{line}" is not like 000_M101.mp4; put the dataset\'s own list there.'
            )
        target, source = found.groups()
        if with_originals:
            paths = original_paths("c23", target)
            yield video_row(files, paths, method=ORIGINAL, target=target, source="", name=target, **about)
        for method in methods:
            paths = [f"manipulated_videos/{method}/{name}.mp4"]
            yield video_row(files, paths, method=method, target=target, source=source, name=name, **about)
