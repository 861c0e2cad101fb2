"""A process that may die: files of strangers are decoded in it, within limits of time and memory.

A decoder that crashes, hangs or eats the memory then costs one answer, not the program. A pool of the standard library
gives up all that it has at hand when one of its processes dies, and does not say how it died.
"""

import ctypes
import multiprocessing
import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item, Callable[[float], None]], Result]  # of an item; the second is told which share of it is done
MIB = 2**20


class Died(Exception):
    """The process ended over an item; the message is the reason, for the item's row."""


class Expendable(Generic[Item, Result]):
    """One process, started when it is first needed; where it dies, the next item gets another one.

    Used by one thread at a time; `progress` may be read, and `kill` called, by any.

    Args:
        make: called once in the process, without arguments; returns the work that is done for each item there. Both
            are sent there, so functions at the top of a module, or partials of them.
        seconds: that one item may take.
        mebibytes: that an item may take beyond what the process had before its first one; None: no limit, as for CUDA,
            which reserves addresses by the terabyte.
    """

    def __init__(self, make: Callable[[], Work[Item, Result]], *, seconds: float, mebibytes: int | None) -> None:
        # Read by the process itself, once it is set up: what this imports, such as torch, takes its threads at once.
        self._given = (pickle.dumps(make), seconds, mebibytes)
        self._context = multiprocessing.get_context("spawn")
        self._progress = self._context.Value("d", 0.0, lock=False)
        self._process: Any = None
        self._pipe: Any = None

    @property
    def progress(self) -> float:
        """Which share of the item at hand is done, in [0, 1]."""
        return float(self._progress.value)

    def start(self) -> None:
        """Start the process, and wait until it is ready; another one where it died idle. Raises what `make` raises."""
        if self._process is not None and not self._process.is_alive():
            self._join()
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            arguments = (theirs, self._progress, *self._given)
            self._process = self._context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
            theirs.close()
            try:
                self._receive()
            except Exception:
                self.close()
                raise

    def __call__(self, item: Item) -> Result:
        """Raises Died, and what the work raises."""
        self.start()
        self._progress.value = 0.0
        with suppress(BrokenPipeError):  # it died just now; receiving says how
            self._pipe.send(item)
        result: Result = self._receive()
        return result

    def kill(self) -> None:
        """End the process, at its item or idle."""
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        self.kill()
        self._join()

    def _receive(self) -> Any:
        try:
            result, error = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise Died(_why(self._join(), self._given[1])) from None
        if error is not None:
            raise error
        return result

    def _join(self) -> int:
        """The exit code of the process, which is no more."""
        if self._process is None:
            return 0
        self._process.join()
        code = int(self._process.exitcode)
        self._pipe.close()
        self._process = None
        return code


def each(processes: Sequence[Expendable[Item, Result]], items: Iterable[Item]) -> Iterator[tuple[Item, Result | Died]]:
    """Each item with its result, or with what its process died of, as they are done; the items are taken one by one.

    What the work raises comes through, and ends it all. Closes the processes at the end.
    """
    rest, idle = iter(items), list(processes)
    at_work: dict[Future[Result | Died], tuple[Item, Expendable[Item, Result]]] = {}
    with ThreadPoolExecutor(max(1, len(processes))) as threads:
        try:
            while True:
                for item in islice(rest, len(idle)):
                    process = idle.pop()
                    at_work[threads.submit(_or_died, process, item)] = (item, process)
                if not at_work:
                    return
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    item, process = at_work.pop(future)
                    idle.append(process)
                    yield item, future.result()
        finally:
            for process in processes:
                process.kill()
    for process in processes:
        process.close()


def _or_died(process: Expendable[Item, Result], item: Item) -> Result | Died:
    try:
        return process(item)
    except Died as died:
        return died


def _why(code: int, seconds: float) -> str:
    if code == -signal.SIGALRM:
        return f"it took longer than {seconds:g} s"
    if code == -signal.SIGKILL:
        return "the process that decoded it was killed, most likely as the memory was used up"
    return f"the process that decoded it crashed ({f'signal {-code}' if code < 0 else f'exit code {code}'})"


def _serve(pipe: Connection, progress: Any, pickled_make: bytes, seconds: float, mebibytes: int | None) -> None:
    """What the process does: the work for each item that comes, until the parent is gone."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}  # before torch and OpenCV are imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and SIGTERM of a group are the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even within a decoder, where no Python runs

    def tell(share: float) -> None:
        progress.value = share

    def answer(function: Callable[..., Any], *given: Any) -> Any:
        result: Any = None
        error: Exception | None = None
        try:
            result = function(*given)
        except MemoryError:
            error = Died(f"it needs more than {mebibytes} MiB of memory")
        except Exception as raised:
            error = raised
        return result, error

    work, error = answer(lambda: pickle.loads(pickled_make)())
    pipe.send((None, error))
    if mebibytes is not None and Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + mebibytes * MIB
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while error is None:
        try:
            item = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        outcome = answer(work, item, tell)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(outcome)
        del item, outcome
        _give_back()


def _give_back() -> None:
    """Give freed memory back to the system: glibc keeps it, after some hundred videos 800 MB."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
