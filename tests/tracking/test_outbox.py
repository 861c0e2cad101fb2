"""What is logged survives: a torn line, a killed process, a server that is away; and nothing is sent twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.tracking.outbox import BATCH, Batch, Busy, Outbox, left_behind
from tests.house.contract import ROOT

HEADER = {"run": "r1", "name": "train_emd", "server": "http://here", "experiment": "1"}


def points(step: int, count: int = 1) -> dict[str, object]:
    return {"kind": "metrics", "step": step, "model": "", "values": {f"m{i}": float(step) for i in range(count)}}


def send_next(box: Outbox) -> Batch:
    batch = box.next_batch()
    assert batch is not None
    box.acknowledge(batch)
    return batch


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.chdir(tmp_path)
    return Outbox(tmp_path / ".mlflow-outbox/r1", HEADER)


def test_batches_keep_the_order_and_the_limit(box: Outbox) -> None:
    """Points of curves fill their requests, whatever lies between them; what a model's figures wait for comes first."""
    tags = {"kind": "tags", "tags": {}}
    for record in (points(0, BATCH - 1), tags, points(1), points(2), points(3) | {"model": "abc"}, points(4)):
        box.append(record)
    sent = []
    while batch := box.next_batch():
        sent.append([record.get("step", "tags") for record in batch.records])
        box.acknowledge(batch)
    assert sent == [[0, 1], [2, 4], ["tags"], [3]]
    assert box.contents() == ""


def test_what_was_sent_is_not_sent_again(box: Outbox) -> None:
    file = box.new_file("roc.png")
    file.write_bytes(b"x")
    box.append({"kind": "file", "file": str(file.relative_to(box.folder)), "folder": ""})
    box.append(points(0, 3))
    assert box.contents() == "3 points, 1 file"
    send_next(box)
    box.close()
    again = Outbox(box.folder)
    assert again.header == HEADER
    assert again.contents() == "1 file"
    assert file.exists()
    send_next(again)
    assert not file.exists()
    assert again.new_file("later.png").parent.name == "1"


def test_a_line_that_was_torn_by_a_kill_is_not_there(box: Outbox) -> None:
    box.append(points(0))
    box.close()
    with (box.folder / "points.jsonl").open("a") as file:
        file.write('{"kind": "metr')
    again = Outbox(box.folder)
    again.append(points(1))
    assert [record["step"] for record in again.unsent()] == [0, 1]


def test_one_process_holds_it_and_the_next_one_finds_what_a_killed_one_left(box: Outbox) -> None:
    box.append(points(0))
    with pytest.raises(Busy):
        Outbox(box.folder)
    assert list(left_behind("http://here")) == []
    script = "import os, signal, sys; from pathlib import Path; from components.tracking.outbox import Outbox\n"
    script += f"box = Outbox(Path('.mlflow-outbox/r2'), {dict(HEADER, run='r2')})\n"
    script += f"box.append({points(7)}); os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -9
    assert list(left_behind("http://elsewhere")) == []
    (found,) = left_behind("http://here")
    records = list(found.unsent())
    assert [record["kind"] for record in records] == ["metrics", "end"]
    assert records[1]["runs"] == ["r2"] and records[1]["status"] == "KILLED"


def test_an_empty_outbox_leaves_no_trace_and_a_refused_record_does(box: Outbox) -> None:
    box.append(points(0))
    box.refuse(points(0), "no such metric")
    send_next(box)
    box.close()
    (line,) = (box.folder / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["refused"] == "no such metric"
    (box.folder / "refused.jsonl").unlink()
    Outbox(box.folder).close()
    assert not box.folder.parent.exists()
