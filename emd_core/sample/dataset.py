"""A small FaceForensics++: its folders, names, splits, codecs and masks, with drawn people."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emd_core.sample.encode import VideoWriter
from emd_core.sample.manipulation import deepfakes, face2face, neural_textures
from emd_core.sample.scene import Take

QUALITIES = {"c23": 23, "c40": 40}  # folder -> constant rate factor
METHODS = {"Deepfakes": deepfakes, "Face2Face": face2face, "NeuralTextures": neural_textures}  # those of the paper
MASK_CRF = 10  # masks must keep their edges


@dataclass(frozen=True)
class Plan:
    """What to draw: `frames` per video, all of `width` x `height` pixels."""

    seed: int
    frames: int
    width: int
    height: int


def split_pairs(train: int, val: int, test: int) -> dict[str, list[tuple[str, str]]]:
    """Pairs of ids as in the official split files; every id belongs to one pair and so to one split."""
    pairs = iter([(f"{2 * k:03d}", f"{2 * k + 1:03d}") for k in range(train + val + test)])
    return {name: [next(pairs) for _ in range(n)] for name, n in (("train", train), ("val", val), ("test", test))}


def write_splits(dataset: Path, splits: dict[str, list[tuple[str, str]]]) -> None:
    """Write splits/{train,val,test}.json."""
    (dataset / "splits").mkdir(parents=True, exist_ok=True)
    for name, pairs in splits.items():
        (dataset / "splits" / f"{name}.json").write_text(json.dumps(pairs, indent=2) + "\n")


def write_target(dataset: Path, plan: Plan, target: str, source: str) -> None:
    """Write all files of one target: its original, every manipulation of it in every quality, and their masks."""
    own = Take(plan.seed, int(target), plan.frames, plan.width, plan.height)
    other = Take(plan.seed, int(source), plan.frames, plan.width, plan.height)
    methods = {name: manipulate(own, other) for name, manipulate in METHODS.items()}
    with ExitStack() as files:

        def writers(folder: str, name: str) -> list[VideoWriter]:
            paths = {dataset / folder / quality / "videos" / f"{name}.mp4": crf for quality, crf in QUALITIES.items()}
            return [files.enter_context(VideoWriter(p, plan.width, plan.height, crf)) for p, crf in paths.items()]

        original = writers("original_sequences/youtube", target)
        pair = f"{target}_{source}"
        fakes = {name: writers(f"manipulated_sequences/{name}", pair) for name in methods}
        masks = {}
        for name in methods:
            path = dataset / "manipulated_sequences" / name / "masks" / "videos" / f"{pair}.mp4"
            masks[name] = files.enter_context(VideoWriter(path, plan.width, plan.height, MASK_CRF))
        for t in range(plan.frames):
            frame = own.frame(t)
            for writer in original:
                writer.write(frame)
            for name, manipulation in methods.items():
                fake, mask = manipulation(frame, t)
                for writer in fakes[name]:
                    writer.write(fake)
                masks[name].write(np.repeat(mask[..., None], 3, axis=2))
