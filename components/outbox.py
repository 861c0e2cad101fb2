"""What a run logs, on disk first: a folder per run that outlives a server that is away and a process that is killed.

    .mlflow-outbox/<run>/run.json       which run of which server
                         records.jsonl  what to send, in order; a line without its end is not there yet
                         sent           how many bytes of it the server has taken
                         files/<n>/…    pictures and artifacts, until they are sent
                         refused.jsonl  what the server would not take, and why

A process holds the folder's lock while it writes or sends; the lock of a killed one is free.
"""

import fcntl
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from emd_core.atomic import atomic_file

FOLDER = ".mlflow-outbox"
BATCH = 1000  # points in one request, MLflow's limit
Record = dict[str, Any]


class Busy(Exception):
    """Another process holds the outbox."""


def root() -> Path:
    """The folder of all outboxes: in the working directory, or on the volume of $EMD_CHECKPOINTS, which outlives it."""
    return Path(os.environ.get("EMD_CHECKPOINTS") or ".").absolute() / FOLDER


class Outbox:
    """Records of one run. Appending is one write; batches are taken and acknowledged by one other thread."""

    def __init__(self, folder: Path, header: Record | None = None) -> None:
        """header: what run.json shall say, for a run's own process; None opens what another left. Raises Busy."""
        self.folder = folder
        self._lock = _lock(folder)
        if header is not None:
            with atomic_file(folder / "run.json") as file:
                file.write_text(json.dumps(header))
        self.header: Record = json.loads((folder / "run.json").read_text())
        self._records = folder / "records.jsonl"
        self._writing = threading.Lock()
        self._end = self._records.open("ab", buffering=0)
        written = self._records.read_bytes()
        if not written.endswith(b"\n"):  # a process was killed within its last line
            self._end.truncate(written.rfind(b"\n") + 1)
        mark = folder / "sent"
        self._sent = int(mark.read_text()) if mark.exists() else 0
        self._files = max((int(p.name) for p in folder.glob("files/*")), default=-1)

    def append(self, record: Record) -> None:
        """Keep a record; it is sent after those that were kept before."""
        line = json.dumps(record).encode() + b"\n"
        with self._writing:
            self._end.write(line)

    def new_file(self, name: str) -> Path:
        """Where to write a file, of which a record then says the path within the outbox."""
        with self._writing:
            self._files += 1
            folder = self.folder / "files" / str(self._files)
        folder.mkdir(parents=True)
        return folder / name

    def unsent(self) -> Iterator[tuple[Record, int]]:
        """The records that were not acknowledged yet, each with the place behind it."""
        place = self._sent
        with self._records.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                place += len(line)
                yield json.loads(line), place

    def next_batch(self) -> tuple[list[Record], int]:
        """What to send next, and the place behind it: up to BATCH points of metrics, or one other record."""
        batch: list[Record] = []
        points, behind = 0, self._sent
        for record, place in self.unsent():
            points += len(record["values"]) if record["kind"] == "metrics" else BATCH
            if batch and points > BATCH:
                break
            batch.append(record)
            behind = place
        return batch, behind

    def acknowledge(self, batch: Sequence[Record], place: int) -> None:
        """The server took these records, or they lie among the refused ones."""
        with atomic_file(self.folder / "sent") as file:
            file.write_text(str(place))
        self._sent = place
        for record in batch:
            if "file" in record and not record.get("refused"):
                shutil.rmtree((self.folder / record["file"]).parent, ignore_errors=True)

    def refuse(self, record: Record, reason: str) -> None:
        """Put aside what the server will never take."""
        record["refused"] = reason
        with (self.folder / "refused.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def contents(self) -> str:
        """What is not sent, in words: "120 points, 8 pictures, 3 files"; "" if all is."""
        counts: Counter[str] = Counter()
        for record, _ in self.unsent():
            noun = {"metrics": "point", "image": "picture", "file": "file"}.get(record["kind"], "note")
            counts[noun] += len(record["values"]) if noun == "point" else 1
        return ", ".join(f"{n} {noun}{'s' if n > 1 else ''}" for noun, n in counts.items())

    def refused(self) -> int:
        """How many records the server refused."""
        path = self.folder / "refused.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def close(self) -> None:
        """Let another process have it; one with nothing left in it is removed."""
        if not any(True for _ in self.unsent()) and not self.refused():
            shutil.rmtree(self.folder)
            if not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()
        self._end.close()
        self._lock.close()


def servers() -> set[str]:
    """The servers for which there are outboxes."""
    return {json.loads(path.read_text())["server"] for path in root().glob("*/run.json")}


def left_behind(server: str) -> Iterator[Outbox]:
    """The outboxes for a server that no living process holds, oldest first.

    A run that did not come to its end was killed: it is marked so, at the time of its last sign of life.
    """
    for path in sorted(root().glob("*/records.jsonl"), key=lambda path: path.stat().st_mtime):
        died = int(path.stat().st_mtime * 1000)
        try:
            if json.loads(path.with_name("run.json").read_text())["server"] != server:
                continue
            box = Outbox(path.parent)
        except (Busy, FileNotFoundError):  # the latter: it was sent and removed in this moment
            continue
        last = path.read_bytes().splitlines()[-1:]
        if not last or json.loads(last[0])["kind"] != "end":
            box.append({"kind": "end", "runs": [box.header["run"]], "status": "KILLED", "time": died})
        yield box


def _lock(folder: Path) -> BinaryIO:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(folder / "lock"), os.fstat(file.fileno())):
                return file
        except BlockingIOError:
            file.close()
            raise Busy(f"{folder} is held by another process") from None
        except FileNotFoundError:  # its holder sent everything and removed it, in between
            pass
        file.close()
