"""The same work on many items, in processes; the results come in the order of the items."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from emd_core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2  # items per process that may be under way or waiting to be taken: bounds the memory


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of each item; with one worker in this process.

    Raises:
        UserError: a process was killed. What `function` raises comes through.
    """
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    rest = iter(items)
    # Spawned, not forked: a fork copies the locks that threads of the parent hold.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_use_one_thread)
    try:
        waiting.extend(pool.submit(function, item) for item in islice(rest, AHEAD * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
            yield result
    except BrokenProcessPool:
        raise UserError(
            f"one of the {workers} processes was killed, most likely as the memory was used up; start again with fewer "
            "workers: what is done is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _use_one_thread() -> None:
    """One core per process: threads of several processes on the same cores are many times slower.

    Runs before a process imports what it works with; torch and OpenCV read these then.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
