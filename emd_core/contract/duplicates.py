"""Crops that lie in more than one split: byte for byte, or nearly so by their perceptual hashes.

What happens within a split is no leak: a fake is nearly its original, a frame nearly the next one.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BITS = 64
EQUAL = 3  # chunks by which candidates are found
PAIRS = 1 << 22  # compared at a time, which bounds the memory
# A perceptual hash sets half of its bits; that of a flat or evenly shaded picture has nothing to set them by.
TELLING = (24, 40)

Hashes = NDArray[np.uint64]
Splits = NDArray[np.intp]
Flags = NDArray[np.bool_]


def is_telling(phash: Hashes) -> Flags:
    """Whether the hash was made of a picture with something in it; N."""
    return (np.bitwise_count(phash) >= TELLING[0]) & (np.bitwise_count(phash) <= TELLING[1])


def same_in_other_split(crops: pd.DataFrame) -> Flags:
    """Which crops (columns crc32, phash, split) have an equal checksum and hash in another split; N."""
    splits = crops.groupby(["crc32", "phash"])["split"].transform("nunique").to_numpy()
    return np.asarray((splits > 1) & is_telling(crops["phash"].to_numpy()))


def near_in_other_split(crops: pd.DataFrame, distance: int) -> Flags:
    """Which crops (columns phash, split) have a hash in another split that differs in at most `distance` bits; N."""
    telling = is_telling(crops["phash"].to_numpy())
    pictures = crops.loc[telling, ["split", "phash"]]
    distinct = pictures.drop_duplicates().sort_values(["split", "phash"])  # frames of one video often share a hash
    found = np.zeros(len(crops), dtype=bool)
    near = _near(distinct["phash"].to_numpy(), pd.factorize(distinct["split"])[0].astype(np.intp), distance)
    found[telling] = near[pictures.groupby(["split", "phash"]).ngroup().to_numpy()]
    return found


def _near(phash: Hashes, split: Splits, distance: int) -> Flags:
    """The same for distinct hashes that are sorted by split.

    Cut into `distance` + EQUAL chunks, two hashes so near agree in at least EQUAL of them (pigeonhole), so only those
    that agree in some EQUAL chunks are compared: a few sorts instead of all pairs.
    """
    found = np.zeros(len(phash), dtype=bool)
    edges = np.linspace(0, BITS, distance + EQUAL + 1).round().astype(int)
    chunks = [(1 << int(high)) - (1 << int(low)) for low, high in pairwise(edges)]
    for some in combinations(chunks, EQUAL):
        key = phash & np.uint64(sum(some))
        order = np.argsort(key, kind="stable")  # within a key still sorted by split
        for left, right in _pairs(key[order], split[order]):
            a, b = order[left], order[right]
            near = np.bitwise_count(phash[a] ^ phash[b]) <= distance
            found[a[near]] = found[b[near]] = True
    return found


def _pairs(key: Hashes, split: Splits) -> Iterator[tuple[Splits, Splits]]:
    """Places of equal key and different split, each pair once; `key` is sorted, and `split` within each key."""
    new_key = np.append(True, key[1:] != key[:-1])
    new_split = new_key | np.append(True, split[1:] != split[:-1])
    place = np.arange(len(key))
    start = np.maximum.accumulate(np.where(new_key, place, 0))
    others = np.maximum.accumulate(np.where(new_split, place, 0)) - start  # of the key, in the splits before
    place = place[others > 0]
    start, others = start[place], others[place]
    done = np.cumsum(others)
    while len(place):
        n = max(1, int(np.searchsorted(done, PAIRS, side="right")))
        right = np.repeat(place[:n], others[:n])
        offset = np.arange(len(right)) - np.repeat(done[:n] - others[:n], others[:n])
        yield np.repeat(start[:n], others[:n]) + offset, right
        place, start, others, done = place[n:], start[n:], others[n:], done[n:] - done[n - 1]
