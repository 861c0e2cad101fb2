"""Weights, states, locks and tables as a broken copy or another program leaves them; docs/bad-input.md."""

import os
import pickle
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from components.tracking import dvc_lock
from emd_core.errors import UserError, fault_of_place
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr
from emd_core.models.xception import without_classifier
from emd_core.reading import reading
from emd_core.storage.atomic import atomic_dir, atomic_file, resumable_dir
from emd_core.storage.growing import ITEMS_PER_PART, GrowingTable, Grown
from emd_core.storage.manifest import FACES, read_manifest
from emd_core.storage.weights import load_exactly, read_state_dict
from emd_core.training.resuming import STATE
from tests.fakes.bad_input_page import sentence_of
from tests.fakes.bad_videos import matches
from tests.fakes.training_data import train, write_training_data

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
LOCK = "schema: '2.0'\nstages:\n  ingest:\n    cmd: x\n    outs:\n    - path: data/videos\n      md5: a.dir\n"


def refused(kind: str, run: Callable[[], object]) -> None:
    with pytest.raises(UserError) as refusal:
        run()
    assert matches(str(refusal.value), sentence_of(kind)), str(refusal.value)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


Wrap = Callable[[dict[str, Tensor]], object]
WRAPS: dict[str, Wrap] = {
    "bare": dict,
    "a training's checkpoint": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}}},
    "model": lambda s: {"model": s},
    "net within state_dict": lambda s: {"state_dict": {"net": s}},
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "DataParallel of a backbone": lambda s: {"state_dict": {f"module.backbone.{k}": v for k, v in s.items()}},
    "before PyTorch 0.4.1": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_what_trainings_lay_around_weights_is_taken_off(tmp_path: Path, wrap: Wrap) -> None:
    there, here = network(), network()
    nn.init.normal_(there[0].weight)
    torch.save(wrap(there.state_dict()), tmp_path / "best.pth.tar")
    load_exactly(here, read_state_dict(tmp_path / "best.pth.tar"), "best.pth.tar")
    assert all(torch.equal(v, here.state_dict()[k]) for k, v in there.state_dict().items())


def test_deepfakebenchs_heads_are_left_out() -> None:
    state = {name: torch.zeros(1) for name in ("conv1.weight", "last_linear.1.weight", "adjust_channel.0.weight")}
    assert list(without_classifier(state)) == ["conv1.weight"]


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    for kind, content in (
        ("weights that are a pointer of Git LFS", POINTER),
        ("weights that are a web page", b"<!DOCTYPE html>\n<html>Sign in</html>"),
        ("a picture without bytes", b""),
    ):
        file.write_bytes(content)
        refused(kind, lambda: read_state_dict(file))
    torch.save(network(), file)
    refused("weights that are a pickled module", lambda: read_state_dict(file))
    torch.jit.script(network()).save(str(file))
    refused("weights that are TorchScript", lambda: read_state_dict(file))
    torch.save(network().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-200])
    refused("weights cut off", lambda: read_state_dict(file))
    file.unlink()
    file.mkdir()
    refused("a list that is a folder", lambda: read_state_dict(file))


@pytest.mark.parametrize("content", [b"", POINTER, b"\xff" * 100])
def test_a_checkpoint_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(UserError, match=f"{CHECKPOINT} is (empty|a pointer of Git LFS|not a whole safetensors file)"):
        load_esr(tmp_path / CHECKPOINT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    """A folder with data, a training of it that was killed after its second epoch, and a whole one; its history."""
    root = tmp_path_factory.mktemp("training")
    data = write_training_data(root / "data")
    history = train(data, root / "whole")
    pid = os.fork()
    if pid == 0:
        train(data, root / "killed", kill_after=1)
    os.waitpid(pid, 0)
    return root, history


@pytest.mark.parametrize("broken", [STATE, f"{STATE} and the one before it", CHECKPOINT])
def test_a_training_whose_state_is_cut_off_goes_on(
    trained: tuple[Path, list[dict[str, float]]], tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the epoch before, or anew; and ends with the bytes of one that nothing happened to."""
    root, history = trained
    work = shutil.copytree(root / "killed", tmp_path / "work")
    for name in {STATE: [STATE], CHECKPOINT: [CHECKPOINT]}.get(broken, [STATE, f"{STATE}.before"]):
        file = work / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert train(root / "data", work) == history
    assert (work / CHECKPOINT).read_bytes() == (root / "whole" / CHECKPOINT).read_bytes()
    assert (work / f"{STATE}.broken").exists()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert matches(said[0], sentence_of("a state of a training cut off")) or broken == CHECKPOINT, said
    assert len(said) == (1 if broken == STATE else 2)


def test_a_growing_table_whose_last_part_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zeros = {field.name: "" if field.type == "string" else 0 for field in FACES}

    def item(i: int) -> Grown:
        row = zeros | {"file": "a.npy", "video": str(i)}
        return Grown([row], {"a.npy": np.full((1, 2, 2, 3), i, np.uint8)})

    with GrowingTable(tmp_path, FACES, (2, 2, 3)) as table:
        for i in range(2 * ITEMS_PER_PART):
            table.add(item(i))
    part = tmp_path / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with GrowingTable(tmp_path, FACES, (2, 2, 3)) as table:
        assert table.items == ITEMS_PER_PART
        for i in range(table.items, 2 * ITEMS_PER_PART):
            table.add(item(i))
        assert table.table()["video"].tolist() == [str(i) for i in range(2 * ITEMS_PER_PART)]
    assert np.load(tmp_path / "a.npy")[:, 0, 0, 0].tolist() == list(range(2 * ITEMS_PER_PART))
    assert matches(capsys.readouterr().err.strip(), sentence_of("a part of a stage's growing table cut off"))


def test_dvc_lock(tmp_path: Path) -> None:
    file = tmp_path / "dvc.lock"
    file.write_text(LOCK)
    lock = dvc_lock.read(file)
    assert lock is not None and lock.outs() == {"data/videos": "a.dir"}
    file.write_text(LOCK.replace("    outs:\n", "<<<<<<< HEAD\n    outs:\n=======\n>>>>>>> feature\n"))
    refused("dvc.lock with conflict markers", lambda: dvc_lock.read(file))
    for other in ("ingest:\n  cmd: x\n", "- a\n", "stages: 3\n", LOCK.replace("md5", "etag"), "stages: ["):
        file.write_text(other)
        refused("dvc.lock of another form", lambda: dvc_lock.read(file))


def test_a_manifest_cut_off(tmp_path: Path) -> None:
    faces = write_training_data(tmp_path / "data") / "faces"
    file = faces / "manifest.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    refused("a manifest cut off", lambda: read_manifest(faces, FACES))


def test_places_that_no_output_can_take(tmp_path: Path) -> None:
    def write(out: Path) -> None:
        with atomic_dir(out):
            raise AssertionError("the work began")

    (tmp_path / "file").write_text("kept")
    refused("an output that is a file", lambda: write(tmp_path / "file"))
    refused("an output below a file", lambda: write(tmp_path / "file/below/out"))
    refused("an output that is a mount point", lambda: write(Path("/proc")))
    with pytest.raises(UserError, match="name a folder of its own"):
        write(Path("."))
    assert (tmp_path / "file").read_text() == "kept" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="needs root and mount")
def test_a_disk_that_is_read_only_or_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True).returncode:
        pytest.skip("this machine lets no one mount a file system")
    try:
        state = {"a": torch.zeros(500_000)}
        writers: list[Callable[[Path], object]] = [  # torch and safetensors hide the system's error
            lambda path: torch.save(state, path.open("wb")),
            lambda path: save_file(state, path),
            lambda path: path.write_text("x" * 1_000_000),
        ]
        for write in writers:
            with pytest.raises(OSError) as full, atomic_file(disk / "out") as temporary:
                write(temporary)
            assert matches(fault_of_place(full.value) or "", sentence_of("disk full"))
            assert str(disk) in str(fault_of_place(full.value)) and os.listdir(disk) == []
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for opened in (atomic_dir(disk / "out"), resumable_dir(disk / "out", "key", state=[])):
            refused("an output on a disk that is mounted read-only", opened.__enter__)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("read", [lambda data: struct.unpack("I", data), lambda data: pickle.loads(data)])
def test_what_lacks_bytes_is_cut_off(tmp_path: Path, read: Callable[[bytes], object]) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80\x02")
    sentence = r"is not a file of weights \(it is cut off\); copy it again"
    with pytest.raises(UserError, match=sentence), reading(path, "a file of weights", "copy it again"):
        read(path.read_bytes())
