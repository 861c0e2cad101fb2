"""Duplicates across splits: the buckets find what comparing all pairs finds."""

import numpy as np
import pandas as pd
import pytest

from emd_core.contract import duplicates
from emd_core.contract.duplicates import is_telling, near_in_other_split, same_in_other_split
from emd_core.faces.crop_figures import perceptual_hash


def alike(n: int, spread: float) -> pd.DataFrame:
    """Hashes of n pictures that are all like one another, the less so the larger `spread`; some occur twice."""
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=64) + rng.normal(0, spread, (n, 64))
    bits = coefficients > np.median(coefficients, axis=1, keepdims=True)
    phash = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    phash[: n // 10] = phash[n // 2 : n // 2 + n // 10]
    return pd.DataFrame({"phash": phash, "split": rng.choice(["train", "val", "test"], n)})


@pytest.mark.parametrize("distance", [0, 1, 4, 6])
@pytest.mark.parametrize("spread", [0.35, 1.0])
def test_what_all_pairs_give(distance: int, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = alike(600, spread)
    phash, split = crops["phash"].to_numpy(), crops["split"].to_numpy()
    near = np.bitwise_count(phash[:, None] ^ phash) <= distance
    expected = (near & (split[:, None] != split)).any(axis=1)
    monkeypatch.setattr(duplicates, "PAIRS", 50)  # many blocks
    assert expected.any() and not expected.all()
    assert np.array_equal(near_in_other_split(crops, distance), expected)


def test_one_split_has_no_duplicates() -> None:
    crops = alike(100, 0.1).assign(split="train", crc32=1)
    assert not near_in_other_split(crops, 6).any()
    assert not same_in_other_split(crops).any()
    assert not near_in_other_split(crops.iloc[:0], 6).any()


def test_the_same_crop_needs_checksum_and_hash() -> None:
    a, b = 0xFFFFFFFF, 0xFFFFFFFF << 32
    crops = pd.DataFrame(
        {"crc32": [1, 1, 1, 2], "phash": np.array([a, a, b, a], np.uint64), "split": ["train", "test", "val", "val"]}
    )
    assert same_in_other_split(crops).tolist() == [True, True, False, False]


def test_flat_pictures_are_not_duplicates_of_one_another() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    flat = [perceptual_hash(np.full((64, 64, 3), level, np.uint8)) for level in (0, 120, 255)]
    textured = perceptual_hash(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    phash = np.array([*flat, perceptual_hash(ramp), textured], np.uint64)
    assert is_telling(phash).tolist() == [False, False, False, False, True]
    both = pd.concat([pd.DataFrame({"phash": phash, "crc32": 0, "split": split}) for split in ("train", "test")])
    assert near_in_other_split(both, 4).tolist() == [False, False, False, False, True] * 2
    assert same_in_other_split(both).tolist() == [False, False, False, False, True] * 2
