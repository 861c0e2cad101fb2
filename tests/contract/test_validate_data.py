"""A contract is worth what it catches: good data pass, and each way to break them is named."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from components.validate_data import validate_data
from emd_core.errors import UserError
from emd_core.storage.manifest import FACES, MASKS, VIDEOS, write_manifest
from tests.fakes.contract_data import CFG, crops, put, write


@pytest.fixture(autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sqlite store for all tests of this file."""
    uri = f"sqlite:///{tmp_path_factory.getbasetemp()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)


def test_good_data_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validate_data(CFG, **write(tmp_path, crops()), report=tmp_path / "report")
    result = json.loads((tmp_path / "report" / "result.json").read_text())
    assert result["success"] and all(check["success"] for check in result["checks"])
    assert "masks of originals are empty" in (tmp_path / "report" / "report.html").read_text()
    assert capsys.readouterr().err.count("warning") == 0


F2F = "Face2Face/c23"
COLUMNS = len(VIDEOS) + len(MASKS)
TOO_FEW = "at least 2 usable videos per method, quality and split"
BREAKS: dict[str, tuple[pd.DataFrame, set[str]]] = {
    "labels": (
        put(crops(), label={2: 1, 4: 0}),  # the mask of either then disagrees as well
        {
            "originals have label 0 (1 of 12 break it, e.g. original/c23/001)",
            f"manipulated videos have label 1 (1 of 12 break it, e.g. {F2F}/000_001)",
            f"masks of originals are empty (1 of 12 break it, e.g. {F2F}/000_001)",
            "at most 5.0% of the manipulated masks are empty (1 of 12 break it, e.g. original/c23/001)",
        },
    ),
    "masks": (
        put(crops(), mask_share={2: 0.1, 4: 0.0, 5: 0.95}),
        {
            "masks of originals are empty (1 of 12 break it, e.g. original/c23/001)",
            f"at most 5.0% of the manipulated masks are empty (1 of 12 break it, e.g. {F2F}/000_001)",
            f"masks fill at most 90% of a crop (1 of 12 break it, e.g. {F2F}/000_001)",
        },
    ),
    "a mask that was not measured": (
        crops().assign(mask_share=lambda table: table["mask_share"].mask(table.index == 4)),
        {f"every mask was measured (1 of 24 break it, e.g. {F2F}/000_001)"},
    ),
    "masks that are not known": (
        crops().assign(mask_share=float("nan")),
        {f"every mask was measured (24 of 24 break it, e.g. original/c23/000, original/c23/001, {F2F}/000_001)"},
    ),
    "boxes": (
        put(crops(), x={0: 11}, y={2: -1, 4: 11}, side={5: 0}, score={6: 1.5}),
        {
            "boxes end inside (right) (1 of 24 break it, e.g. original/c23/000)",
            "boxes start inside the frame (y) (1 of 24 break it, e.g. original/c23/001)",
            f"boxes end inside (bottom) (1 of 24 break it, e.g. {F2F}/000_001)",
            f"boxes have a size (1 of 24 break it, e.g. {F2F}/000_001)",
            f"scores are probabilities (1 of 24 break it, e.g. {F2F}/001_000)",
        },
    ),
    "duplicates": (
        put(crops(), frame={3: 0}, row={5: 4}),
        {
            "a frame is cropped once (2 of 24 break it, e.g. original/c23/001)",
            f"crops lie in places of their own (2 of 24 break it, e.g. {F2F}/000_001)",
        },
    ),
    "a leak": (
        put(crops(), split={0: "test", 1: "test"}),
        {
            "no target or source id in two splits (3 of 12 break it, e.g. original/c23/000, "
            f"{F2F}/000_001, {F2F}/001_000)",
            f"{TOO_FEW} (1 of 6 break it, e.g. original/c23/train)",
        },
    ),
    "one crop in two splits": (
        crops().assign(
            crc32=lambda t: t["crc32"].where(t.index != 23, t["crc32"][4]),
            phash=lambda t: t["phash"].where(t.index != 23, t["phash"][4]),
        ),
        {f"no crop lies in two splits (2 of 24 break it, e.g. {F2F}/000_001, {F2F}/005_004)"},
    ),
    "a value that is missing": (
        crops().assign(
            score=lambda t: t["score"].mask(t.index == 3),
            source=lambda t: t["source"].mask(t.index == 0),
            row=lambda t: t["row"].mask(t.index == 0),
        ),
        {
            f"no value is missing (4 of {COLUMNS} break it, e.g. videos.source, masks.source, masks.row)",
            f"columns have their declared types (1 of {COLUMNS} break it, e.g. masks.row)",
        },
    ),
    "too few": (crops().drop(index=[6, 7]), {f"{TOO_FEW} (1 of 6 break it, e.g. {F2F}/train)"}),
    "no originals": (
        crops().query("label == 1"),
        {f"{TOO_FEW} (3 of 6 break it, e.g. original/c23/train, original/c23/val, original/c23/test)"},
    ),
    "bad videos": (
        put(crops(), status=dict.fromkeys(range(4, 8), "no_face")),
        {
            f"at most 10.0% of the videos found are bad (2 of 12 break it, e.g. {F2F}/000_001, {F2F}/001_000)",
            f"{TOO_FEW} (1 of 6 break it, e.g. {F2F}/train)",
        },
    ),
}


@pytest.mark.parametrize(("table", "told"), BREAKS.values(), ids=BREAKS.keys())
def test_each_break_is_named_and_nothing_else(tmp_path: Path, table: pd.DataFrame, told: set[str]) -> None:
    with pytest.raises(UserError) as refused:
        validate_data(CFG, **write(tmp_path, table), report=tmp_path / "report")
    failed = tmp_path / "report.failed"
    assert not (tmp_path / "report").exists()
    checks = json.loads((failed / "result.json").read_text())["checks"]
    broken = [c for c in checks if not c["success"] and c["severity"] == "critical"]
    assert {f"{check['name']} ({check['observed']})" for check in broken} == told
    assert all(sentence in str(refused.value) for sentence in [*told, str(failed / "report.html")])


def test_data_without_masks_pass_where_none_are_expected(tmp_path: Path) -> None:
    cfg = CFG.model_copy(update={"masks": "none"})
    table = crops().assign(mask_share=float("nan"))
    validate_data(cfg, **write(tmp_path, table), report=tmp_path / "report")
    checks = json.loads((tmp_path / "report" / "result.json").read_text())["checks"]
    assert [c["observed"] for c in checks if "mask" in c["name"]][1:] == ["0 of 24 break it"]


def test_a_known_mask_is_refused_where_none_are_expected(tmp_path: Path) -> None:
    cfg = CFG.model_copy(update={"masks": "none"})
    table = put(crops().assign(mask_share=float("nan")), mask_share={4: 0.3})
    with pytest.raises(UserError, match="contract: no mask is known .1 of 24 break it, e.g. Face2Face/c23/000_001.;"):
        validate_data(cfg, **write(tmp_path, table), report=tmp_path / "report")


def test_a_video_lost_on_the_way_is_named(tmp_path: Path) -> None:
    table = crops()
    ports = write(tmp_path, table.drop(index=[0, 1]), videos=table.drop_duplicates("video"))
    with pytest.raises(UserError, match="no video is lost on the way .1 of 12 break it, e.g. original/c23/000."):
        validate_data(CFG, **ports, report=tmp_path / "report")


def test_one_bad_video_in_many_only_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = put(crops(), status={4: "unreadable", 5: "unreadable"})
    cfg = CFG.model_copy(update={"min_videos": 1})
    (tmp_path / "report.failed").mkdir()
    validate_data(cfg, **write(tmp_path, table), report=tmp_path / "report")
    assert "warning: every video is usable: 1 of 12 break it, e.g. Face2Face/c23/000_001" in capsys.readouterr().err
    assert json.loads((tmp_path / "report" / "result.json").read_text())["success"]
    assert not (tmp_path / "report.failed").exists()


def test_one_unmasked_crop_in_many_passes(tmp_path: Path) -> None:
    cfg = CFG.model_copy(update={"max_empty_share": 0.1})
    validate_data(cfg, **write(tmp_path, put(crops(), mask_share={4: 0.0})), report=tmp_path / "report")
    assert (tmp_path / "report" / "report.html").exists()


def test_masks_of_another_run_are_refused(tmp_path: Path) -> None:
    ports = write(tmp_path, crops())
    write_manifest(ports["faces"], crops().iloc[::-1], FACES, {})
    with pytest.raises(UserError, match="--masks was made from another run's --faces"):
        validate_data(CFG, **ports, report=tmp_path / "report")
