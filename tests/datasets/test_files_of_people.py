"""Pictures, annotations and lists as people have them; what each gives stands in docs/bad-input.md."""

import os
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from components.ingest import Ingest, ingest
from emd_core.errors import UserError
from emd_core.expressions.faces import ExpressionFaces
from emd_core.storage.listing import is_companion
from emd_core.storage.manifest import VIDEOS, read_manifest
from emd_core.storage.pictures import read_picture
from emd_core.training.batches import Batches
from tests.expressions.test_expression_faces import write_older
from tests.fakes import tiny
from tests.fakes.bad_input_page import sentence_of
from tests.fakes.bad_videos import matches
from tests.fakes.fer_data import write_newer

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
OWN = Ingest(
    dataset="own_videos", methods=["manipulated"], qualities=["released"], max_bad_share=0, require_splits=[], workers=1
)


def refused(kind: str, run: Callable[[], object]) -> None:
    with pytest.raises(UserError) as refusal:
        run()
    assert matches(str(refusal.value), sentence_of(kind)), str(refusal.value)


def drawn() -> np.ndarray:
    return cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 4, 3), dtype=np.uint8), (40, 60))


@pytest.mark.parametrize(
    "kind", ["CMYK", "16 bits", "16 bits, grey", "grey with alpha", "alpha", "turned", "progressive"]
)
def test_odd_pictures_are_read_upright_as_rgb_of_8_bits(tmp_path: Path, kind: str) -> None:
    rgb = drawn()
    image, file, grey = Image.fromarray(rgb), tmp_path / "a", cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    expected = np.repeat(grey[..., None], 3, 2) if "grey" in kind else rgb
    if kind.startswith("16 bits"):
        wide = (grey if "grey" in kind else rgb[..., ::-1]).astype(np.uint16) * 257
        file.write_bytes(cv2.imencode(".png", wide)[1].tobytes())
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        image.save(file, "JPEG", quality=98, exif=exif)
        expected = np.rot90(rgb, -1)
    elif kind == "CMYK":
        image.convert("CMYK").save(file, "JPEG", quality=98)
    elif kind == "progressive":
        image.save(file, "JPEG", quality=98, progressive=True)
    else:
        image.convert("LA" if "grey" in kind else "RGBA").save(file, "PNG")
    found = read_picture(file)
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).mean() < 3
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    refused("a picture cut off", lambda: read_picture(file))


@pytest.mark.parametrize(
    ("kind", "content"),
    [("a picture without bytes", b""), ("a picture that is a web page", b"\n<!DOCTYPE html><html>404</html>")],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_refusal_comes_out_of_a_loaders_process_as_one_sentence(
    tmp_path: Path, kind: str, content: bytes, workers: int
) -> None:
    root = write_newer(tmp_path / "affectnet", train=1)
    (root / "val_set/images/30.jpg").write_bytes(content)
    faces = ExpressionFaces(root, "val", 54)
    refused(kind, lambda: list(Batches(faces, 4, num_workers=workers)))
    assert [len(label) for _, label in Batches(ExpressionFaces(root, "train", 54), 3, num_workers=workers)] == [3, 3, 2]


def test_a_workers_end_is_one_sentence(tmp_path: Path) -> None:
    class Deadly(ExpressionFaces):
        def __getitem__(self, index: int) -> tuple:  # type: ignore[type-arg]
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    faces = Deadly(write_newer(tmp_path / "affectnet", train=1), "val", 54)
    with pytest.raises(UserError, match="one of the 1 workers was killed, .* start again with fewer workers"):
        list(Batches(faces, 4, num_workers=1))


def test_what_systems_lay_beside_the_data_is_no_data(tmp_path: Path) -> None:
    root = write_newer(tmp_path / "affectnet", train=1)
    labels = ExpressionFaces(root, "train", 54).labels.tolist()
    for path in [p for p in root.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            path.with_name(name).write_bytes(b"\0")
    assert ExpressionFaces(root, "train", 54).labels.tolist() == labels
    assert [is_companion(n) for n in ("._a_exp.npy", "THUMBS.DB", "a_exp.npy")] == [True, True, False]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"three", APPLE_DOUBLE])
def test_an_annotation_that_is_no_number(tmp_path: Path, content: bytes) -> None:
    root = write_newer(tmp_path / "affectnet", train=1)
    (root / "train_set/annotations/30_exp.npy").write_bytes(content)
    kind = "an annotation that is no number" if content else "a picture without bytes"
    refused(kind, lambda: ExpressionFaces(root, "train", 54))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_with_other_separators(tmp_path: Path, separator: str) -> None:
    table = write_older(tmp_path) / "training.csv"
    table.write_text(table.read_text().replace(",", separator))
    refused("a table with other separators", lambda: ExpressionFaces(tmp_path, "train", 54))


def test_a_table_from_windows(tmp_path: Path) -> None:
    table = write_older(tmp_path) / "training.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b" \r\n"))
    assert ExpressionFaces(tmp_path, "train", 54).labels.tolist() == [3, 0]


def own(root: Path, text: str | bytes) -> Path:
    (root / "real").mkdir(parents=True)
    for name, start in ((unicodedata.normalize("NFD", "José Müller"), 45), ("b", 50), ("c", 55)):
        tiny.write_mp4(root / "real" / f"{name}.mp4", tiny.face_frames(3, start))
    (root / "videos.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def listed(root: Path) -> list[str]:
    ingest(OWN, dataset=root, videos=root / "out")
    return sorted(read_manifest(root / "out", VIDEOS).table["path"])


NFC = unicodedata.normalize("NFC", "real/José Müller.mp4")


@pytest.mark.parametrize(
    "text",
    [
        f"path,label\n{NFC},0\nreal/b.mp4,1\n",
        f"\ufeffpath, label\r\n{NFC} , 0\r\nreal/b.mp4,1\r\n,\r\n\r\n",
        f'path,label\n"{NFC}",0\n./real/b.mp4,1',
    ],
    ids=["NFC", "Windows", "quoted"],
)
def test_a_list_from_another_computer_finds_its_files(tmp_path: Path, text: str) -> None:
    assert listed(own(tmp_path / "own", text)) == sorted([unicodedata.normalize("NFD", NFC), "real/b.mp4"])


def test_folders_in_another_form_are_found_and_one_name_in_two_forms_is_one(tmp_path: Path) -> None:
    root = own(tmp_path / "own", "path,label,mask_path\né/a.mp4,1,é/m.mp4\n")
    (root / "real").rename(root / unicodedata.normalize("NFD", "é"))
    for name in ("a", "m"):
        tiny.write_mp4(root / unicodedata.normalize("NFD", "é") / f"{name}.mp4", tiny.face_frames(2))
    assert listed(root) == [unicodedata.normalize("NFD", "é/a.mp4")]
    (root / "videos.csv").write_text("path,label\né/a.mp4,1\n" + unicodedata.normalize("NFD", "é/a.mp4,1\n"))
    with pytest.raises(UserError, match="line 3: a video 'é/a' of this quality stands in .* line 2 too"):
        listed(root)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("a list with backslashes", "path,label\nreal\\b.mp4,0\n"),
        ("a list with drives", "path,label\nC:/real/b.mp4,0\n"),
        ("a list with decimal labels", "path,label\nreal/b.mp4,0.0\n"),
        ("a list with words as labels", "path,label\nreal/b.mp4,REAL\n"),
        ("a list with semicolons", "path;label\nreal/b.mp4;0\n"),
        ("a list with an index column", ",path,label\n0,real/b.mp4,0\n"),
        ("a list with capitals in its first line", "Path,Label\nreal/b.mp4,0\n"),
        ("a list in UTF-16", "path,label\nreal/b.mp4,0\n".encode("utf-16")),
        ("a list in Latin-1", "path,label\nreal/é.mp4,0\n".encode("latin-1")),
        ("a list with conflict markers", "path,label\n<<<<<<< HEAD\nreal/b.mp4,0\n=======\n>>>>>>> other\n"),
        ("a list that is a folder", ""),
    ],
)
def test_lists_that_say_what_to_write(tmp_path: Path, kind: str, text: str | bytes) -> None:
    root = own(tmp_path / "own", text)
    if not text:
        (root / "videos.csv").unlink()
        (root / "videos.csv").mkdir()
    refused(kind, lambda: listed(root))
    assert not (root / "out").exists()
