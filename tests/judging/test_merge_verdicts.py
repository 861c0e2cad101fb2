"""Shards of verdicts become one table and page, or a sentence says why not."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from components.judging.files import MADE_BY
from components.merge_verdicts import merge_verdicts
from emd_core.errors import UserError
from emd_core.verdicts.table import row, write_tables
from emd_core.verdicts.verdict import Answer
from tests.fakes.judgements import judgement


def shard(folder: Path, names: list[str], **made_by: object) -> Path:
    """A folder as detect leaves it; of each file's folder only a report."""
    for name in names:
        (folder / f"{name}-0").mkdir(parents=True)
        (folder / f"{name}-0/report.html").write_text(name)
    verdicts = [judgement([], Answer.UNKNOWN, "", None, file=name).verdict for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder, (row(verdict, f"{verdict.file}-0") for verdict in verdicts))
    (folder / MADE_BY).write_text(json.dumps({"digest": "abc", "frames": 16} | made_by))
    return folder


def test_every_file_is_in_the_table_once_and_links_lead_to_its_report(tmp_path: Path) -> None:
    """Also of a shard without files, and of what was joined before."""
    shards = [shard(tmp_path / f"v/{k}/4", names) for k, names in enumerate([["a b", "ü"], ["c"], []], 1)]
    merge_verdicts(shards[:2], tmp_path / "half")
    merge_verdicts([tmp_path / "half", shards[2], shard(tmp_path / "v/4/4", ["d"])], tmp_path / "v")
    table = pd.read_parquet(tmp_path / "v/verdicts.parquet")
    assert table["path"].tolist() == ["a b", "ü", "c", "d"]
    assert pd.read_csv(tmp_path / "v/verdicts.csv")["path"].tolist() == ["a b", "ü", "c", "d"]
    assert [(tmp_path / "v" / folder / "report.html").read_text() for folder in table["folder"]] == list(table["path"])
    (tmp_path / "v").rename(tmp_path / "moved")  # the links are relative
    links = re.findall(r'href="([^"]+report\.html)"', (tmp_path / "moved/index.html").read_text())
    assert {(tmp_path / "moved" / unquote(link)).read_text() for link in links} == set(table["path"])


def test_shards_that_are_no_parts_of_one_whole_are_refused(tmp_path: Path) -> None:
    first, second = shard(tmp_path / "1", ["a"]), shard(tmp_path / "2", ["b"])
    for made_by, named in (({"digest": "def"}, "digest"), ({"frames": 8}, "frames"), ({"scale": 2}, "scale")):
        other = shard(tmp_path / named, ["c"], **made_by)
        with pytest.raises(UserError, match=f"{other} holds verdicts with another {named} than {first}"):
            merge_verdicts([first, second, other], tmp_path / "all")
    with pytest.raises(UserError, match="another scale than"):
        merge_verdicts([tmp_path / "scale", first], tmp_path / "all")
    again = shard(tmp_path / "again", ["b"])
    with pytest.raises(UserError, match=f"b is both in {second} and in {again}"):
        merge_verdicts([first, second, again], tmp_path / "all")
    with pytest.raises(UserError, match=f"a is both in {first} and in {first}"):
        merge_verdicts([first, first], tmp_path / "all")
    (second / "verdicts.parquet").unlink()
    with pytest.raises(UserError, match=r"2/verdicts.parquet does not exist; let detect finish there"):
        merge_verdicts([first, second], tmp_path / "all")
    with pytest.raises(UserError, match="1 is a shard itself"):
        merge_verdicts([first], first)
    with pytest.raises(UserError, match="no shard is named"):
        merge_verdicts([], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_kubeflow_names_the_shards_by_what_detect_left_and_gets_table_and_page(tmp_path: Path) -> None:
    left = []
    for k in (1, 2):
        left.append(tmp_path / f"artifacts/{k}/judged")
        left[-1].parent.mkdir(parents=True)
        left[-1].write_text(json.dumps({"folder": str(shard(tmp_path / f"v/{k}", [f"clip {k}"]))}))
    given = {
        "inputs": {"artifacts": {"shards": {"artifacts": [{"uri": str(file)} for file in left]}}},
        "outputs": {
            "artifacts": {n: {"artifacts": [{"name": n, "uri": str(tmp_path / n)}]} for n in ("table", "page")},
            "outputFile": str(tmp_path / "executor_output.json"),
        },
    }
    merge_verdicts(None, tmp_path / "v", json.dumps(given))
    assert pd.read_parquet(tmp_path / "table")["path"].tolist() == ["clip 1", "clip 2"]
    assert "clip 2" in (tmp_path / "page").read_text()
