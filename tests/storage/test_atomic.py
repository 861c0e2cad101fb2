"""Outputs are whole or absent, also after SIGKILL."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from emd_core.storage.atomic import atomic_dir, atomic_file, resumable_dir


def write(out: Path, content: str, *, key: str | None = None, die: str = "") -> None:
    with atomic_dir(out) if key is None else resumable_dir(out, key, state=["state"]) as work:
        (work / content).write_text(content)
        (work / "state").mkdir(exist_ok=True)
        if die == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if die:
            raise RuntimeError(die)
        if key is None:
            (work / "state").rmdir()


def killed(out: Path, content: str, key: str | None = None, at: str = "") -> None:
    """Killed in the block, or as soon as it calls `at`."""

    def run() -> None:
        if at:
            pytest.MonkeyPatch().setattr(at, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        write(out, content, key=key, die="" if at else "killed")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_run_leaves_no_output_and_the_next_starts_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed(out, "half")
    assert not out.exists()
    write(out, "whole")
    assert names(out) == ["whole"]
    assert names(tmp_path) == ["out"]


def test_a_killed_run_leaves_the_earlier_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")
    killed(out, "second")
    assert names(out) == ["first"]
    write(out, "third")
    assert names(out) == ["third"]


@pytest.mark.parametrize(("key", "found"), [("a", ["first", "second"]), ("b", ["second"])])
def test_a_killed_run_resumes_only_with_its_own_key(tmp_path: Path, key: str, found: list[str]) -> None:
    out = tmp_path / "out"
    killed(out, "first", key="a")
    write(out, "second", key=key)
    assert names(out) == found
    assert names(tmp_path) == ["out"]


def test_state_is_kept_on_the_volume_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod loses its disk: the output's folder is another one after the kill, the volume is the same."""
    volume = tmp_path / "volume"
    monkeypatch.setenv("EMD_CHECKPOINTS", str(volume))
    killed(tmp_path / "pod-1/model", "of no named run", key="a")
    assert names(volume / "run/model-a.partial") == [".resume-key", "of no named run", "state"]
    monkeypatch.setenv("EMD_PIPELINE_RUN", "run-7")
    killed(tmp_path / "pod-2/model", "first", key="a")
    write(tmp_path / "pod-3/model", "second", key="a")
    assert names(tmp_path / "pod-3") == ["model"]
    assert names(tmp_path / "pod-3/model") == ["first", "second"]
    assert names(volume / "run-7") == []
    assert not (tmp_path / "pod-1").exists() and not (tmp_path / "pod-2").exists()


@pytest.mark.parametrize("volume", [True, False], ids=["on a volume", "beside the output"])
@pytest.mark.parametrize("at", ["os.link", "emd_core.storage.atomic._replace", "pathlib.Path.unlink"])
def test_nothing_is_lost_between_the_copy_and_the_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, volume: bool
) -> None:
    if volume:
        monkeypatch.setenv("EMD_CHECKPOINTS", str(tmp_path / "volume"))
    out = tmp_path / "pod/out"
    write(out, "earlier", key="a")
    killed(out, "first", key="b", at=at)
    assert names(out) == (["first"] if at == "pathlib.Path.unlink" else ["earlier"])
    write(out, "second", key="b")
    assert names(out) == ["first", "second"]
    assert names(out.parent) == ["out"]


def test_half_removed_state_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rmtree = shutil.rmtree

    def half(folder: Path, **options: bool) -> None:
        if folder.name == ".out.partial" and folder.exists():
            (folder / "first").unlink()
            raise KeyboardInterrupt
        rmtree(folder, **options)

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
        resumable_dir(out, "a", state=[]) as work,
    ):
        (work / "first").write_text("first")
        (work / "left").write_text("left")
        patch.setattr(shutil, "rmtree", half)
    assert names(out) == ["first", "left"]
    write(out, "second", key="a")
    assert names(out) == ["second"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write(tmp_path / "out", "half", die="error")
    assert names(tmp_path) == []


def test_a_file_is_whole_or_as_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    with atomic_file(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    assert names(tmp_path) == ["file"]
