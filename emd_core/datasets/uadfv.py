"""The folder layout of UADFV as a table of videos.

    <root>/real/<number>.mp4
    <root>/fake/<number>_fake.mp4    the same video with Nicolas Cage's face put in

It is a test set: all 49 pairs have split test. There are no splits, masks or compressions.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.rows import RELEASED, Row, list_names, require_known, require_layout, video_row, videos_table
from emd_core.manifest import ORIGINAL

METHODS = ("UADFV",)


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a UADFV root; a fake without its original is listed, and the other way round.

    Raises:
        UserError: other methods or qualities, or no such layout under `root`.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, [RELEASED])
    require_layout(root, "UADFV", ["real", "fake"])
    return videos_table(_rows(root), root)


def _rows(root: Path) -> Iterator[Row]:
    about = {"quality": RELEASED, "split": "test", "source": "", "named_by": "the folder"}
    for folder, method, pattern in (("real", ORIGINAL, r"(\d+)"), ("fake", METHODS[0], r"(\d+)_fake")):
        for name in list_names(root / folder):
            if found := re.fullmatch(pattern, Path(name).stem):
                of = {"target": found[1], "name": Path(name).stem}
                yield video_row(root, [f"{folder}/{name}"], method=method, **of, **about)
