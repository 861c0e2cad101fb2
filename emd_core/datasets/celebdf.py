"""The folder layout of Celeb-DF, version 1 or 2, as a table of videos.

    <root>/Celeb-real/id<a>_<scene>.mp4                originals of celebrities
    <root>/YouTube-real/<number>.mp4                   originals of other people
    <root>/Celeb-synthesis/id<a>_id<b>_<scene>.mp4     original id<a>_<scene> with b's face put in
    <root>/List_of_testing_videos.txt                  "<1 = real, 0 = fake> <path>" per line

It is a test set: the listed videos have split test. The others are not listed here, as nearly all of its 59 celebrities
are in the test list, and trained on they would leak into it. There are no masks, and one compression, as released.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.rows import RELEASED, Row, require_known, require_layout, video_row, videos_table
from emd_core.errors import UserError
from emd_core.storage.listing import Files, read_lines
from emd_core.storage.manifest import ORIGINAL

METHODS = ("CelebDF",)
LIST = "List_of_testing_videos.txt"
FAKE = re.compile(r"(id\d+)_(id\d+)_(\d+)")


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a Celeb-DF root: the official test videos.

    Raises:
        UserError: other methods or qualities, no such layout under `root`, or a bad list.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, [RELEASED])
    require_layout(root, "Celeb-DF", [LIST, "Celeb-real", "Celeb-synthesis"])
    return videos_table(_rows(root), root)


def _rows(root: Path) -> Iterator[Row]:
    files = Files(root)
    about = {"quality": RELEASED, "split": "test", "named_by": LIST}
    for number, line in enumerate(read_lines(root / LIST), start=1):
        label, _, path = line.partition(" ")
        folder, name = Path(path).parent.name, Path(path).stem
        real = folder in ("Celeb-real", "YouTube-real")
        if label not in ("0", "1") or real != (label == "1") or (not real and not FAKE.fullmatch(name)):
            raise UserError(
                f'{root / LIST}, line {number}: "{line}" is none of "1 Celeb-real/id0_0001.mp4", '
                '"1 YouTube-real/00001.mp4" and "0 Celeb-synthesis/id0_id1_0001.mp4"; put the dataset\'s list there.'
            )
        # A celebrity's video and a stranger's could have one name, so the stranger's carries its folder.
        if real:
            name = name if folder == "Celeb-real" else f"YouTube-{name}"
            yield video_row(files, [path], method=ORIGINAL, target=name, source="", name=name, **about)
        else:
            target, source, scene = FAKE.fullmatch(name).groups()  # type: ignore[union-attr]
            of = {"target": f"{target}_{scene}", "source": source}
            yield video_row(files, [path], method=METHODS[0], name=name, **of, **about)
