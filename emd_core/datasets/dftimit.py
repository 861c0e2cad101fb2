"""The folder layout of DeepfakeTIMIT as a table of videos.

    <root>/{lower,higher}_quality/<subject>/<sentence>-video-<source>.avi    the source's face in the subject's video
    <root>/VidTIMIT/<subject>/<sentence>.avi                                 its originals, another data set

It is a test set: all 320 fakes of a quality have split test. The quality is the size of the face that the swap was
trained with (64 or 128 px), not a compression. VidTIMIT is listed where it lies in <root>; it comes as pictures, to be
made into videos first. There are no masks.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.rows import Row, require_known, require_layout, video_row, videos_table
from emd_core.storage.listing import Files
from emd_core.storage.manifest import ORIGINAL

METHODS = ("DeepfakeTIMIT",)
QUALITIES = ("lower_quality", "higher_quality")
NAME = re.compile(r"(\w+)-video-(\w+)")


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a DeepfakeTIMIT root; a video whose name is none of the dataset's is left out.

    Raises:
        UserError: other methods or qualities, or no such layout under `root`.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, QUALITIES)
    require_layout(root, "DeepfakeTIMIT", qualities)
    files = Files(root)
    return videos_table((row for quality in qualities for row in _rows(files, quality)), root)


def _rows(files: Files, quality: str) -> Iterator[Row]:
    about = {"quality": quality, "split": "test"}
    originals = (files.root / "VidTIMIT").is_dir()
    for subject in files.folders(quality):
        for file in files.videos(f"{quality}/{subject}"):
            found = NAME.fullmatch(Path(file).stem)
            if not found:
                continue
            sentence, source = found.groups()
            target = f"{subject}_{sentence}"
            if originals:
                real = {"method": ORIGINAL, "target": target, "source": "", "name": target}
                yield video_row(files, [f"VidTIMIT/{subject}/{sentence}.avi"], named_by="its fake", **real, **about)
            fake = {"method": METHODS[0], "target": target, "source": source, "name": f"{target}_{source}"}
            yield video_row(files, [f"{quality}/{subject}/{file}"], named_by="the folder", **fake, **about)
