"""A process that may die: whatever an item does to it, the next one is served."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import cv2
import psutil
import pytest
import torch

from emd_core.errors import UserError
from emd_core.expendable import Died, Expendable, each

PINNED: list[bytearray] = []
Tell = Callable[[float], None]


def double(item: int | str, tell: Tell) -> int:
    tell(0.5)
    if item == "crash":
        ctypes.string_at(0)
    if item == "exit":
        os._exit(7)
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        time.sleep(60)
    if item == "memory":
        return len(bytearray(3 * 2**30))
    if item == "hoard":
        del (large := {"freed": bytearray(30 * 2**20)})["freed"]  # from then on glibc puts smaller ones on its heap
        blocks = [bytearray(2**17) for _ in range(2000)]
        PINNED.append(blocks[-1])  # at the end of the heap, which therefore does not shrink
        return len(large)
    if item == "refuse":
        raise UserError("no.")
    assert isinstance(item, int)
    return 2 * item


def make(work: Callable[[int | str, Tell], int] = double) -> Callable[[int | str, Tell], int]:
    return work


def refuse_to_start() -> Callable[[int | str, Tell], int]:
    raise UserError("there is no model.")


def count_threads() -> Callable[[int, Tell], tuple[int, int]]:
    return lambda item, tell: (torch.get_num_threads(), cv2.getNumThreads())


@pytest.fixture(scope="module")
def process() -> Iterator[Expendable[int | str, int]]:
    expendable: Expendable[int | str, int] = Expendable(partial(make), seconds=2, mebibytes=1024)
    yield expendable
    expendable.close()


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("crash", "crashed (signal 11)"),
        ("exit", "crashed (exit code 7)"),
        ("killed", "killed, most likely as the memory"),
        ("hang", "longer than 2 s"),
        ("memory", "more than 1024 MiB"),
    ],
)
def test_a_death_costs_one_item(process: Expendable[int | str, int], item: str, says: str) -> None:
    with pytest.raises(Died) as died:
        process(item)
    assert says in str(died.value)
    assert process(4) == 8


def test_a_death_while_idle_costs_nothing(process: Expendable[int | str, int]) -> None:
    assert process(2) == 4
    process.kill()
    process._process.join()
    assert process(3) == 6


def test_freed_memory_is_given_back(process: Expendable[int | str, int]) -> None:
    process(1)
    running = psutil.Process(process._process.pid)
    before = running.memory_info().rss
    process("hoard")
    process(1)
    assert running.memory_info().rss - before < 50e6


def test_what_the_work_raises_comes_through(process: Expendable[int | str, int]) -> None:
    process.start()
    own = process._process.pid
    with pytest.raises(UserError, match="no"):
        process("refuse")
    assert process(1) == 2 and process._process.pid == own
    assert process.progress == 0.5


def test_it_computes_in_one_thread_so_that_several_do_not_fight_for_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        monkeypatch.delenv(name, raising=False)
    process: Expendable[int, tuple[int, int]] = Expendable(count_threads, seconds=20, mebibytes=None)
    with closing(process):
        assert process(1) == (1, 1)


def test_one_that_cannot_start_says_why() -> None:
    process: Expendable[int | str, int] = Expendable(refuse_to_start, seconds=2, mebibytes=None)
    with pytest.raises(UserError, match="there is no model"):
        process(1)
    process.close()


def test_nothing_to_do_is_done_without_a_process() -> None:
    assert list(each([], [])) == []
