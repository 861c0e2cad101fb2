"""What a run logs, on disk first: a folder per run that outlives a server that is away and a process that is killed.

    .mlflow-outbox/<run>/run.json       which run of which server
                         points.jsonl   points of curves, in order; a line without its end is not there yet
                         records.jsonl  everything else, in order
                         *.sent         how many bytes of these the server has taken
                         files/<n>/…    pictures and artifacts, until they are sent
                         refused.jsonl  what the server would not take, and why

A process holds the folder's lock while it writes or sends; the lock of a killed one is free.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from components.tracking.server import workspace
from emd_core.storage.atomic import atomic_file

FOLDER, RECORDS = ".mlflow-outbox", "records.jsonl"
BATCH = 1000  # points in one request, MLflow's limit
Record = dict[str, Any]


class Busy(Exception):
    """Another process holds the outbox."""


def root() -> Path:
    """The folder of all outboxes: in the workspace (on a cluster the volume, which outlives the pods), or
    among the temporary files where that cannot be written, as in a pod without the volume."""
    here = workspace()
    return (here if os.access(here, os.W_OK) else Path(tempfile.gettempdir())) / FOLDER


class Journal:
    """Lines of JSON that one thread appends, and another reads and acknowledges."""

    def __init__(self, path: Path) -> None:
        self.path, self._mark = path, path.with_suffix(".sent")
        self._writing = threading.Lock()
        self._end = path.open("ab", buffering=0)
        written = path.read_bytes()
        if not written.endswith(b"\n"):  # a process was killed within its last line
            self._end.truncate(written.rfind(b"\n") + 1)
        self._sent = int(self._mark.read_text()) if self._mark.exists() else 0

    def append(self, record: Record) -> None:
        line = json.dumps(record).encode() + b"\n"
        with self._writing:
            self._end.write(line)

    def unsent(self) -> Iterator[tuple[Record, int]]:
        """The records that were not acknowledged yet, each with the place behind it."""
        place = self._sent
        with self.path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                place += len(line)
                yield json.loads(line), place

    def acknowledge(self, place: int) -> None:
        with atomic_file(self._mark) as file:
            file.write_text(str(place))
        self._sent = place

    def close(self) -> None:
        self._end.close()


class Batch(NamedTuple):
    """What is sent at once."""

    records: list[Record]
    journal: Journal
    place: int  # behind the last record


class Outbox:
    """Records of one run. Appending is one write; batches are taken and acknowledged by one other thread."""

    def __init__(self, folder: Path, header: Record | None = None) -> None:
        """header: what run.json shall say, for a run's own process; None opens what another left. Raises Busy."""
        self.folder = folder
        self._lock = _lock(folder, own=header is not None)
        if header is not None:
            with atomic_file(folder / "run.json") as file:
                file.write_text(json.dumps(header))
        self.header: Record = json.loads((folder / "run.json").read_text())
        self._points, self._records = Journal(folder / "points.jsonl"), Journal(folder / RECORDS)
        self._files = max((int(p.name) for p in folder.glob("files/*") if p.name.isdigit()), default=-1)

    def append(self, record: Record) -> None:
        """Keep a record. Points of curves are sent before all else, so that they fill their requests; what concerns
        a model waits until the model is there."""
        curve = record["kind"] == "metrics" and not record["model"]
        (self._points if curve else self._records).append(record)

    def new_file(self, name: str) -> Path:
        """Where to write a file, of which a record then says the path within the outbox."""
        self._files += 1
        folder = self.folder / "files" / str(self._files)
        folder.mkdir(parents=True)
        return folder / name

    def unsent(self) -> Iterator[Record]:
        """The records that were not acknowledged yet."""
        for journal in (self._points, self._records):
            yield from (record for record, _ in journal.unsent())

    def next_batch(self) -> Batch | None:
        """What to send next: up to BATCH points of curves, or one other record; None if there is nothing."""
        records: list[Record] = []
        points, place = 0, 0
        for record, behind in self._points.unsent():
            points += len(record["values"])
            if records and points > BATCH:
                break
            records.append(record)
            place = behind
        if records:
            return Batch(records, self._points, place)
        for record, behind in self._records.unsent():
            return Batch([record], self._records, behind)
        return None

    def acknowledge(self, batch: Batch) -> None:
        """The server took these records, or they lie among the refused ones."""
        batch.journal.acknowledge(batch.place)
        for record in batch.records:
            if "file" in record and "refused" not in record:
                shutil.rmtree((self.folder / record["file"]).parent, ignore_errors=True)

    def refuse(self, record: Record, reason: str) -> None:
        """Put aside what the server will never take."""
        record["refused"] = reason
        with (self.folder / "refused.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def contents(self) -> str:
        """What is not sent, in words: "120 points, 8 pictures, 3 files"; "" if all is."""
        counts: Counter[str] = Counter()
        for record in self.unsent():
            noun = {"metrics": "point", "image": "picture", "file": "file"}.get(record["kind"], "note")
            counts[noun] += len(record["values"]) if noun == "point" else 1
        told = ((noun, counts[noun]) for noun in ("point", "picture", "file", "note"))
        return ", ".join(f"{n} {noun}{'s' if n > 1 else ''}" for noun, n in told if n)

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
        self._points.close()
        self._records.close()
        self._lock.close()


def servers() -> set[str]:
    """The servers for which there are outboxes."""
    return {json.loads(path.read_text())["server"] for path in root().glob("*/run.json")}


def left_behind(server: str) -> Iterator[Outbox]:
    """The outboxes for a server that no living process holds, oldest first.

    A run that did not come to its end was killed: it is marked so, at the time of its last sign of life.
    """
    for path in sorted(root().glob(f"*/{RECORDS}"), key=lambda path: path.stat().st_mtime):
        died = max(int(journal.stat().st_mtime * 1000) for journal in path.parent.glob("*.jsonl"))
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


def _lock(folder: Path, own: bool) -> BinaryIO:
    """Raises Busy. Where the file system knows no locks, a run's own process has its outbox and nobody else does."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(folder / "lock"), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:  # its holder sent everything and removed it, in between
            pass
        except OSError as error:
            if own and error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                return file
            file.close()
            raise Busy(f"{folder} is held by another process") from None
        file.close()
