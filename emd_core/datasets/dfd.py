"""The DeepFakeDetection part of FaceForensics++ (Google's, with paid actors) as a table of videos.

    <root>/original_sequences/actors/<quality>/videos/<actor>__<scene>.mp4
    <root>/manipulated_sequences/DeepFakeDetection/<quality>/videos/<actor>_<source>__<scene>__<8 characters>.mp4
    <root>/manipulated_sequences/DeepFakeDetection/masks/videos/<the same>.mp4

It is a test set: all videos have split test. It comes without splits, and as its 28 actors were swapped with one
another, any split of them would have to drop most fakes.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.faceforensics import QUALITIES, quality_folders
from emd_core.datasets.rows import Row, list_names, require_known, require_layout, video_row, videos_table
from emd_core.manifest import ORIGINAL

METHODS = ("DeepFakeDetection",)
ORIGINALS, FAKES = "original_sequences/actors", "manipulated_sequences/DeepFakeDetection"
REAL_NAME = re.compile(r"(\d+)__(.+)")
FAKE_NAME = re.compile(r"(\d+)_(\d+)__(.+)__(\w{8})")


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of the DeepFakeDetection part; a video whose name is none of the dataset's is left out.

    Raises:
        UserError: an unknown method or quality, or no such layout under `root`.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, QUALITIES)
    require_layout(root, "DeepFakeDetection", [ORIGINALS, FAKES])
    return videos_table((row for quality in qualities for row in _rows(root, quality)), root)


def _rows(root: Path, quality: str) -> Iterator[Row]:
    about = {"quality": quality, "split": "test", "named_by": "the folder"}
    for path in _videos(root, ORIGINALS, quality):
        if REAL_NAME.fullmatch(name := Path(path).stem):
            yield video_row(root, [path], method=ORIGINAL, target=name, source="", name=name, **about)
    for path in _videos(root, FAKES, quality):
        name = Path(path).stem
        if found := FAKE_NAME.fullmatch(name):
            actor, source, scene, _ = found.groups()
            of = {"target": f"{actor}__{scene}", "source": source, "mask_path": f"{FAKES}/masks/videos/{name}.mp4"}
            yield video_row(root, [path], method=METHODS[0], name=name, **of, **about)


def _videos(root: Path, part: str, quality: str) -> list[str]:
    folders = [f"{part}/{name}/videos" for name in quality_folders(quality)]
    return [f"{folder}/{name}" for folder in folders for name in list_names(root / folder)]
