"""The official FaceForensics++ folder layout as a table of videos.

    <root>/original_sequences/youtube/<quality>/videos/<target>.mp4
    <root>/manipulated_sequences/<method>/<quality>/videos/<target>_<source>.mp4
    <root>/manipulated_sequences/<method>/masks/videos/<target>_<source>.mp4    one set for all qualities
    <root>/splits/{train,val,test}.json                                         lists of id pairs [a, b]

A pair [a, b] stands for the originals a and b and the fakes a_b and b_a of every method. Fake a_b is video a with
b's expression or identity put in; it shares a's background, frames and split.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.errors import UserError
from emd_core.manifest import OK, ORIGINAL, VIDEOS

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
QUALITIES = ("c0", "c23", "c40")
SPLITS = ("train", "val", "test")
MISSING = "missing"

Pairs = dict[str, list[tuple[str, str]]]


def read_splits(root: Path) -> Pairs:
    """Split name -> id pairs; an id that stands in two splits is refused, for the test set would leak."""
    pairs: Pairs = {}
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / "splits" / f"{split}.json"
        try:
            listed = json.loads(path.read_text())
            pairs[split] = [(a, b) for a, b in listed]
            ids = {video_id for pair in pairs[split] for video_id in pair}
            if not all(isinstance(video_id, str) for video_id in ids):
                raise TypeError("an id is not a string")
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; put the official split files there.") from None
        except (ValueError, TypeError) as error:
            raise UserError(f'{path} is not a list of id pairs like [["071", "054"], …] ({error}); mend it.') from None
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
    _require_known("ingest.methods", methods, METHODS)
    _require_known("ingest.qualities", qualities, QUALITIES)
    _require_layout(root)
    pairs = read_splits(root)
    rows = [
        row
        for quality in qualities
        for split, listed in pairs.items()
        for a, b in listed
        for target, source in ((a, b), (b, a))
        for row in _group(root, methods, quality, split, target, source)
    ]
    if not rows:
        raise UserError(f"the split files in {root / 'splits'} name no video; put the dataset's official ones there.")
    return pd.DataFrame(rows, columns=VIDEOS.names).drop_duplicates("video", ignore_index=True)


def _group(
    root: Path, methods: Sequence[str], quality: str, split: str, target: str, source: str
) -> Iterator[dict[str, object]]:
    """The row of original `target`, then one row per method of the fake that was made from it."""
    yield _row(root, ORIGINAL, quality, split, target, "", "original_sequences/youtube", target)
    for method in methods:
        folder = f"manipulated_sequences/{method}"
        yield _row(root, method, quality, split, target, source, folder, f"{target}_{source}")


def _row(
    root: Path, method: str, quality: str, split: str, target: str, source: str, folder: str, name: str
) -> dict[str, object]:
    # The download script of the dataset calls uncompressed videos raw, its older one c0.
    names = ("c0", "raw") if quality == "c0" else (quality,)
    paths = [f"{folder}/{quality_name}/videos/{name}.mp4" for quality_name in names]
    path = next((p for p in paths if (root / p).is_file()), None)
    mask_path = f"{folder}/masks/videos/{name}.mp4"
    return {
        "video": f"{method}/{quality}/{name}",
        "method": method,
        "quality": quality,
        "label": int(method != ORIGINAL),
        "split": split,
        "target": target,
        "source": source,
        "path": path or paths[0],
        "mask_path": mask_path if method != ORIGINAL and (root / mask_path).is_file() else "",
        "status": OK if path else MISSING,
        "reason": "" if path else f"split '{split}' names it, but {paths[0]} is not there",
    }


def _require_known(key: str, asked: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise UserError(f"{key} names the unknown {', '.join(unknown)}; the known ones are {', '.join(known)}.")


def _require_layout(root: Path) -> None:
    expected = ("original_sequences", "manipulated_sequences", "splits")
    if not all((root / name).is_dir() for name in expected):
        found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) if root.is_dir() else ""
        raise UserError(
            f"{root} has not the FaceForensics++ layout: expected the folders {', '.join(expected)}, found "
            f"{found or 'nothing'}; pass the dataset's root."
        )
