"""The folder layout of UADFV as a table of videos.

    <root>/real/<number>.mp4
    <root>/fake/<number>_fake.mp4    the same video with Nicolas Cage's face put in

It is a test set: all 49 pairs have split test. There are no splits, masks or compressions.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.rows import RELEASED, Row, require_known, require_layout, video_row, videos_table
from emd_core.storage.listing import Files
from emd_core.storage.manifest import ORIGINAL

METHODS = ("UADFV",)
NAME = re.compile(r"(\d+)(?:_fake)?\.mp4")


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a UADFV root: for each number that either folder has, an original and its fake.

    Raises:
        UserError: other methods or qualities, or no such layout under `root`.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, [RELEASED])
    require_layout(root, "UADFV", ["real", "fake"])
    return videos_table(_rows(root), root)


def _rows(root: Path) -> Iterator[Row]:
    files = Files(root)
    names = [*files.videos("real"), *files.videos("fake")]
    numbers = {found[1] for found in (NAME.fullmatch(name) for name in names) if found}
    about = {"quality": RELEASED, "split": "test", "source": "", "named_by": "the other of its pair"}
    for number in sorted(numbers):
        for folder, method, name in (("real", ORIGINAL, number), ("fake", METHODS[0], f"{number}_fake")):
            yield video_row(files, [f"{folder}/{name}.mp4"], method=method, target=number, name=name, **about)
