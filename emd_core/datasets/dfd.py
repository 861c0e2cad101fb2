"""The DeepFakeDetection part of FaceForensics++ (Google's, with paid actors) as a table of videos.

    <root>/original_sequences/actors/<quality>/videos/<actor>__<scene>.mp4
    <root>/manipulated_sequences/DeepFakeDetection/<quality>/videos/<actor>_<source>__<scene>__<8 characters>.mp4
    <root>/manipulated_sequences/DeepFakeDetection/masks/videos/<the same>.mp4

It is a test set: all videos have split test. It comes without splits, and as its 28 actors were swapped with one
another, a split by actors would have to drop the fakes that join two of its parts.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.faceforensics import QUALITIES, quality_folders
from emd_core.datasets.rows import Row, require_known, require_layout, video_row, videos_table
from emd_core.storage.listing import Files
from emd_core.storage.manifest import ORIGINAL

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
    files = Files(root)
    return videos_table((row for quality in qualities for row in _rows(files, quality)), root)


def _rows(files: Files, quality: str) -> Iterator[Row]:
    about = {"quality": quality, "split": "test", "named_by": "the folder or a fake"}
    fakes = [name for name in _stems(files, FAKES, quality) if FAKE_NAME.fullmatch(name)]
    originals = {name for name in _stems(files, ORIGINALS, quality) if REAL_NAME.fullmatch(name)}
    for name in sorted(originals | {_target(fake) for fake in fakes}):
        paths = _paths(ORIGINALS, quality, name)
        yield video_row(files, paths, method=ORIGINAL, target=name, source="", name=name, **about)
    for name in fakes:
        _, actor, _, model = FAKE_NAME.fullmatch(name).groups()  # type: ignore[union-attr]
        # Two models put some actors into the same scene; by the actor alone these would count as one video.
        of = {"target": _target(name), "source": f"{actor}_{model}"}
        mask = f"{FAKES}/masks/videos/{name}.mp4"
        paths = _paths(FAKES, quality, name)
        yield video_row(files, paths, method=METHODS[0], name=name, mask_path=mask, **of, **about)


def _target(fake: str) -> str:
    """Name of the original that a fake was made from."""
    actor, _, scene, _ = FAKE_NAME.fullmatch(fake).groups()  # type: ignore[union-attr]
    return f"{actor}__{scene}"


def _stems(files: Files, part: str, quality: str) -> list[str]:
    names = [name for folder in quality_folders(quality) for name in files.videos(f"{part}/{folder}/videos")]
    return [Path(name).stem for name in names if name.endswith(".mp4")]


def _paths(part: str, quality: str, name: str) -> list[str]:
    return [f"{part}/{folder}/videos/{name}.mp4" for folder in quality_folders(quality)]
