"""Bad and odd input gives what the table of docs/bad-input.md says, and no other video's rows change."""

import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest

from emd_core.faces.boxes import Square, cut
from emd_core.storage.arrays import open_rows
from tests.fakes import tiny
from tests.fakes.bad_input_page import page
from tests.fakes.bad_videos import KINDS, PICKED, Kind, matches
from tests.fakes.spoil import Pictures

Tables = dict[str, pd.DataFrame]  # by stage


class Pair(NamedTuple):
    """An original, a fake of it and the fake's mask; `kind` is what will be done to one of them."""

    kind: Kind | None
    target: str
    source: str
    shade: int

    def video(self, of: str) -> str:
        return f"original/c23/{self.target}" if of == "original" else f"Face2Face/c23/{self.target}_{self.source}"

    def path(self, root: Path, of: str) -> Path:
        if of == "original":
            return tiny.original_path(root, self.target)
        return (tiny.fake_path if of == "fake" else tiny.mask_path)(root, f"{self.target}_{self.source}")

    def pictures(self, of: str) -> Pictures:
        if of == "mask":
            return tiny.mouth_masks(8)
        frames = tiny.face_frames(8, mouth=0.045 if of == "original" else 0.12)
        return [np.clip(frame.astype(int) + self.shade, 0, 255).astype(np.uint8) for frame in frames]


class Runs(NamedTuple):
    pairs: list[Pair]
    healthy: Tables
    spoilt: Tables
    out: Path
    shown: dict[str, Pictures]  # by name of the kind: what the spoilt file shows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A run on whole videos, and one after a file of each pair but every tenth was spoilt."""
    root = tmp_path_factory.mktemp("bad")
    dataset, out, shown = root / "ffpp", root / "spoilt", {}
    kinds: list[Kind | None] = list(KINDS)
    for i in range(0, len(kinds) + len(kinds) // 9, 10):
        kinds.insert(i, None)
    kinds += [None] * (len(kinds) % 2)
    names = [kind.target if kind and kind.target else f"{i:03d}" for i, kind in enumerate(kinds)]
    pairs = []
    for i, kind in enumerate(kinds):
        pairs.append(Pair(kind, names[i], names[i ^ 1], i - 35))
        for of in ("original", "fake", "mask"):
            tiny.write_mp4(pairs[i].path(dataset, of), pairs[i].pictures(of), crf=10 if of == "mask" else 23)
    tiny.write_splits(dataset, train=[(pair.target, pair.source) for pair in pairs[::2]])

    def spoil(when: str) -> None:
        for pair in pairs:
            if pair.kind and pair.kind.after == when:
                of, pictures = pair.kind.of, pair.pictures(pair.kind.of)
                shown[pair.kind.name] = pair.kind.spoil(pair.path(dataset, of), pictures) or pictures

    healthy = tiny.run_stages(dataset, root / "healthy", threshold=0.7)
    spoil("")
    later = {stage: lambda stage=stage: spoil(stage) for stage in ("ingest", "extract_frames")}
    return Runs(pairs, healthy, tiny.run_stages(dataset, out, after=later, threshold=0.7), out, shown)


def rows_of(table: pd.DataFrame, video: str) -> pd.DataFrame:
    return table[table["video"] == video].reset_index(drop=True)


def pair_of(runs: Runs, kind: Kind) -> Pair:
    return next(pair for pair in runs.pairs if pair.kind is kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_gives_what_the_table_says(runs: Runs, kind: Kind) -> None:
    pair = pair_of(runs, kind)
    video = pair.video("fake" if kind.of == "mask" else kind.of)
    rows = rows_of(runs.spoilt["generate_masks"], video)
    bad = rows[rows["status"] != "ok"]
    assert (rows["status"] == "ok").sum() == kind.crops
    assert set(bad["status"]) == ({kind.status} if kind.status else set())
    assert all(matches(reason, kind.reason) for reason in bad["reason"])
    told = [stage for stage, table in runs.spoilt.items() if (rows_of(table, video)["status"] != "ok").any()]
    assert told[:1] == ([kind.stage] if kind.stage else [])
    if kind.of == "original":
        fake = rows_of(runs.spoilt["generate_masks"], pair.video("fake"))
        assert fake["status"].tolist() == ["ok"] * PICKED


def show_their_frames(runs: Runs, video: str, pictures: Pictures) -> int:
    """Assert that a video's crops are cut from the pictures that their rows name; how many there are."""
    rows = rows_of(runs.spoilt["crop_faces"], video)
    cropped = rows[rows["status"] == "ok"].to_dict("records")
    for row in cropped:
        crop = luma(open_rows(runs.out / "crop_faces" / row["file"])[row["row"]])
        square = Square(row["x"], row["y"], row["side"])
        off = [np.abs(crop - luma(cut(image, square, tiny.CROP.size))).mean() for image in pictures]
        assert int(np.argmin(off)) == row["frame"] and min(off) < 10, (video, off)
    return len(cropped)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.crops and kind.of != "mask"], ids=lambda k: k.name)
def test_crops_show_the_frames_that_their_rows_name(runs: Runs, kind: Kind) -> None:
    video = pair_of(runs, kind).video(kind.of)
    assert show_their_frames(runs, video, runs.shown[kind.name]) == kind.crops


def test_the_larger_of_two_faces_is_cut(runs: Runs) -> None:
    video = next(pair.video("original") for pair in runs.pairs if pair.kind and pair.kind.name == "two faces")
    squares = [rows_of(run["crop_faces"], video)[["x", "y", "side"]] for run in (runs.healthy, runs.spoilt)]
    assert (squares[0] - squares[1]).abs().to_numpy().max() <= 6


def luma(image: tiny.Image) -> np.ndarray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=float)


UNTOUCHED = {"": ["original", "fake"], "original": ["fake"], "fake": ["original"], "mask": ["original", "fake"]}


def test_no_other_video_changes(runs: Runs) -> None:
    """Their rows, crops and masks are those of the run without bad ones, and show their own pictures."""
    n_same = 0
    for pair in runs.pairs:
        spoilt = pair.kind.of if pair.kind else ""
        for of in UNTOUCHED[spoilt]:
            video = pair.video(of)
            assert show_their_frames(runs, video, pair.pictures(of)) == PICKED
            if (spoilt, of) == ("original", "fake"):
                continue  # it has its own box where its original has none
            stages = ["crop_faces"] if (spoilt, of) == ("mask", "fake") else ["crop_faces", "generate_masks"]
            for stage in stages:
                before, now = (rows_of(run[stage], video) for run in (runs.healthy, runs.spoilt))
                pd.testing.assert_frame_equal(*(rows.drop(columns=["row", "mask_path"]) for rows in (before, now)))
                stored = [
                    [open_rows(out / stage / file)[row] for file, row in zip(rows["file"], rows["row"], strict=True)]
                    for out, rows in ((runs.out.with_name("healthy"), before), (runs.out, now))
                ]
                assert np.array_equal(*stored)
            n_same += len(now)
    assert n_same > 80


def test_no_crop_is_corrupt_and_no_video_lost(runs: Runs) -> None:
    faces = runs.spoilt["crop_faces"]
    cropped = faces[faces["status"] == "ok"]
    stored = [
        open_rows(runs.out / "crop_faces" / file)[row]
        for file, row in zip(cropped["file"], cropped["row"], strict=True)
    ]
    assert [zlib.crc32(np.ascontiguousarray(crop).data) for crop in stored] == cropped["crc32"].tolist()
    assert set(faces["video"]) == {pair.video(of) for pair in runs.pairs for of in ("original", "fake")}


def test_the_page_is_current() -> None:
    assert len(KINDS) > 30
    assert (Path(__file__).parents[2] / "docs/bad-input.md").read_text() == page(), (
        "print it anew with python -m tests.fakes.bad_input_page"
    )
