"""Outputs are whole or absent, also after SIGKILL."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from emd_core.atomic import atomic_dir, atomic_file


def write(out: Path, content: str, *, key: str | None = None, die: str = "") -> None:
    with atomic_dir(out, resume_key=key) as work:
        (work / content).write_text(content)
        if die == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if die:
            raise RuntimeError(die)


def killed(out: Path, content: str, key: str | None = None) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=write, args=(out, content), kwargs={"key": key, "die": "killed"}
    )
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
