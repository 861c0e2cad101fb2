"""A contract is worth what it catches: good data pass, and each way to break them is named."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from components.validate_data import ValidateData, validate_data
from emd_core.errors import UserError
from emd_core.manifest import FACES, MASKS, VIDEOS, read_manifest, write_manifest

CFG = ValidateData(
    min_videos=2,
    max_bad_share=0.1,
    masks="required",
    max_mask_share=0.9,
    max_empty_share=0.05,
    min_crops_share=0.6,
    min_label_share=0.4,
    near_bits=4,
    max_near_share=0.5,
    profile=None,
    max_drift=0.2,
)


def crops() -> pd.DataFrame:
    """Two originals and two fakes per split, two crops each."""
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    for index, split in enumerate(("train", "val", "test")):
        a, b = f"{2 * index:03}", f"{2 * index + 1:03}"
        for target, source in ((a, ""), (b, ""), (a, b), (b, a)):
            method = "Face2Face" if source else "original"
            video = f"{method}/c23/{target}" + (f"_{source}" if source else "")
            about = {"video": video, "method": method, "quality": "c23", "label": int(bool(source)), "split": split}
            ids = {"target": target, "source": source, "path": "", "mask_path": "", "status": "ok", "reason": ""}
            box = {"x": 10, "y": 10, "side": 90, "score": 0.99, "width": 100, "height": 100}
            share = 0.3 if source else 0.0
            for frame in (0, 5):
                place = {"frame": frame, "file": f"{split}.bin", "row": len(rows), "box_from": video}
                half = rng.permutation(64) < 32
                picture = {"crc32": len(rows), "phash": int("".join("01"[bit] for bit in half * 1), 2)}
                picture |= {"sharpness": float(rng.uniform(50, 500)), "mask_share": share}
                rows.append({**about, **ids, **box, **place, **picture})
    types = {field.name: field.type.to_pandas_dtype() for field in MASKS if field.name in ("phash", "sharpness")}
    return pd.DataFrame(rows).astype(types)


def write(folder: Path, masks: pd.DataFrame, videos: pd.DataFrame | None = None) -> dict[str, Path]:
    """The three folders the stage reads, made from one another."""
    ports = {name: folder / name for name in ("videos", "faces", "masks")}
    for path in ports.values():
        path.mkdir(parents=True)
    videos = masks.drop_duplicates("video") if videos is None else videos
    write_manifest(ports["videos"], videos, VIDEOS, {})
    write_manifest(ports["faces"], masks, FACES, {})
    write_manifest(ports["masks"], masks, MASKS, {"faces": read_manifest(ports["faces"], FACES)})
    return ports


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


def put(table: pd.DataFrame, **values: dict[int, object]) -> pd.DataFrame:
    """Break single values: column -> {row: value}. Rows 0 to 3 are originals, 4 to 7 fakes of the train split."""
    for column, by_row in values.items():
        table[column] = pd.Series(by_row).combine_first(table[column]).astype(table[column].dtype)
    return table


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
        {"every mask was measured (24 of 24 break it, e.g. original/c23/000, original/c23/001)"},
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


def near_twin(table: pd.DataFrame) -> pd.DataFrame:
    """The first original of the test split looks like the first of the train split, but for two bits of its hashes."""
    phash = table["phash"].to_numpy().copy()
    phash[[16, 17]] = phash[[0, 1]] ^ np.uint64(0b101 << 20)
    return table.assign(phash=phash)


WARNINGS: dict[str, tuple[pd.DataFrame, str]] = {
    "near": (
        near_twin(crops()),
        "at most 50% of a video's crops look like crops of another split: "
        "2 of 12 break it, e.g. original/c23/000, original/c23/004",
    ),
    "balance": (
        crops().drop(index=[1, 3]),
        "either label has 40% of the crops of a method and its originals: 1 of 6 break it, e.g. Face2Face/c23/train",
    ),
    "crops per video": (
        put(crops(), status={5: "no_face"}),
        f"a video has at least 60% of the crops that are usual in its split: 1 of 12 break it, e.g. {F2F}/000_001",
    ),
    "flat": (put(crops(), sharpness={0: 0.0}), "no crop is flat: 1 of 24 break it, e.g. original/c23/000"),
}


@pytest.mark.parametrize(("table", "told"), WARNINGS.values(), ids=WARNINGS.keys())
def test_a_warning_is_shown_and_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: pd.DataFrame, told: str
) -> None:
    validate_data(CFG, **write(tmp_path, table), report=tmp_path / "report")
    assert f"warning: {told}\n" in capsys.readouterr().err
    assert "The data may be trained on, with " in (tmp_path / "report" / "report.html").read_text()


def test_the_profile_of_one_data_set_is_the_reference_of_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = write(tmp_path, crops())
    validate_data(CFG, **ports, report=tmp_path / "before")
    cfg = CFG.model_copy(update={"profile": tmp_path / "before/profile.json"})
    validate_data(cfg, **ports, report=tmp_path / "same")
    assert "warning" not in capsys.readouterr().err
    blurred = crops().assign(sharpness=lambda t: t["sharpness"] / 4)
    validate_data(cfg, **write(tmp_path / "blurred", blurred), report=tmp_path / "after")
    told = "face size and sharpness are within 0.2 of the reference profile: 1 of 2 break it, e.g. sharpness/c23"
    assert f"warning: {told}\n" in capsys.readouterr().err
    figures = json.loads((tmp_path / "after/result.json").read_text())["figures"]
    assert figures["drift/side/c23"] == 0 and figures["drift/sharpness/c23"] > 0.5
    validate_data(cfg, **write(tmp_path / "other", crops().assign(quality="c40")), report=tmp_path / "new")
    assert "warning: the reference profile knows every quality: 2 of 2 break it" in capsys.readouterr().err


def test_a_wrong_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{"masks": "m", "qualities": {"c23": {}}}')
    for name, said in (("profile.json", "is no profile of data .Field required."), ("none.json", "does not exist")):
        cfg = CFG.model_copy(update={"profile": tmp_path / name})
        with pytest.raises(UserError, match=f"{name} {said}"):
            validate_data(cfg, **write(tmp_path / name.split(".")[0], crops()), report=tmp_path / "report")


def test_the_report_stands_alone_and_repeats(tmp_path: Path) -> None:
    ports = write(tmp_path, near_twin(crops()))
    validate_data(CFG, **ports, report=tmp_path / "a")
    validate_data(CFG, **ports, report=tmp_path / "b")
    for name in ("report.html", "result.json", "profile.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    page = (tmp_path / "a/report.html").read_text()
    assert "http" not in page and page.index("Warnings") < page.index("Counts") < page.index("Passed")


def test_figures_reach_mlflow(tmp_path: Path) -> None:
    validate_data(CFG, **write(tmp_path, near_twin(crops())), report=tmp_path / "report")
    (run,) = mlflow.search_runs(
        search_all_experiments=True, filter_string="run_name = 'validate_data'", max_results=1, output_format="list"
    )
    logged = {name: run.data.metrics[f"data/{name}"] for name in ("videos", "bad_share", "near_crops", "same_crops")}
    assert logged == {"videos": 12, "bad_share": 0, "near_crops": 4, "same_crops": 0}


def test_data_without_one_usable_crop_are_refused_with_a_report(tmp_path: Path) -> None:
    table = crops().assign(status="no_face", reason="none")
    with pytest.raises(UserError, match="at most 10.0% of the videos found are bad .12 of 12 break it"):
        validate_data(CFG, **write(tmp_path, table), report=tmp_path / "report")
    assert "critical expectations broken" in (tmp_path / "report.failed/report.html").read_text()


def test_masks_of_another_run_are_refused(tmp_path: Path) -> None:
    ports = write(tmp_path, crops())
    write_manifest(ports["faces"], crops().iloc[::-1], FACES, {})
    with pytest.raises(UserError, match="--masks was made from another run's --faces"):
        validate_data(CFG, **ports, report=tmp_path / "report")
