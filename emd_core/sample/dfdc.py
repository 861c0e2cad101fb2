"""A small DFDC: its folders, names, metadata and codec, with drawn people.

Each original has two fakes, in each of which the other person of its pair was put in: one per method of METHODS. As in
DFDC, nothing in the data tells method or source, and there are no masks.
"""

import json
import string
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from emd_core.sample.dataset import Plan
from emd_core.sample.encode import VideoWriter
from emd_core.sample.manipulation import deepfakes, face_swap
from emd_core.sample.scene import Take

PARTS = {"train": "dfdc_train_part_0", "val": "dfdc_train_part_35", "test": "dfdc_train_part_40"}
METHODS = (deepfakes, face_swap)
CRF = 23


def write_metadata(dataset: Path, seed: int, splits: dict[str, list[tuple[str, str]]]) -> None:
    """Write each part's metadata.json, by name of the videos; `splits` has pairs of ids."""
    for split, pairs in splits.items():
        entries: dict[str, dict[str, str]] = {}
        for original, *fakes in (_names(seed, target) for pair in pairs for target in pair):
            entries[original] = {"label": "REAL", "split": "train"}
            entries |= {fake: {"label": "FAKE", "split": "train", "original": original} for fake in fakes}
        (dataset / PARTS[split]).mkdir(parents=True)
        text = json.dumps(entries, indent=2, sort_keys=True)
        (dataset / PARTS[split] / "metadata.json").write_text(text + "\n")


def write_target(part: Path, plan: Plan, target: str, source: str) -> None:
    """Write one target's original and its fakes with the face of `source` into the folder of a part."""
    own = Take(plan.seed, int(target), plan.frames, plan.width, plan.height)
    other = Take(plan.seed, int(source), plan.frames, plan.width, plan.height)
    fakes = [manipulate(own, other) for manipulate in METHODS]
    with ExitStack() as files:
        original, *fake_files = (
            files.enter_context(VideoWriter(part / name, plan.width, plan.height, CRF, "yuv420p"))
            for name in _names(plan.seed, target)
        )
        for t in range(plan.frames):
            frame = own.frame(t)
            original.write(frame)
            for file, fake in zip(fake_files, fakes, strict=True):
                file.write(fake(frame, t)[0])


def _names(seed: int, target: str) -> list[str]:
    """File names of a target's original and of its fakes: ten letters each, as DFDC's, that tell nothing."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4, int(target))))
    letters = list(string.ascii_lowercase)
    return ["".join(rng.choice(letters, 10)) + ".mp4" for _ in range(1 + len(METHODS))]
