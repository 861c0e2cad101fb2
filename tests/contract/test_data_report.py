"""What the contract warns of, and the report on the data."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from components.validate_data import validate_data
from emd_core.errors import UserError
from tests.fakes.contract_data import CFG, crops, put, write


@pytest.fixture(autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sqlite store for all tests of this file."""
    uri = f"sqlite:///{tmp_path_factory.getbasetemp()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)


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
        "a video has at least 60% of the crops that are usual in its split: "
        "1 of 12 break it, e.g. Face2Face/c23/000_001",
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
    for name, said in (
        ("profile.json", "is not a profile of data .qualities.c23.crops: Field required.; name"),
        ("none.json", "does not exist"),
    ):
        cfg = CFG.model_copy(update={"profile": tmp_path / name})
        with pytest.raises(UserError, match=f"{name} {said}"):
            validate_data(cfg, **write(tmp_path / name.split(".")[0], crops()), report=tmp_path / "report")


def test_the_report_stands_alone_and_repeats(tmp_path: Path) -> None:
    ports = write(tmp_path, near_twin(crops()))
    validate_data(CFG, **ports, report=tmp_path / "a")
    validate_data(CFG, **ports, report=tmp_path / "b")
    for name in ("report.html", "result.json", "profile.json", "validity.json"):
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
    page = (tmp_path / "report.failed/report.html").read_text()
    assert "critical expectations broken" in page and "0 videos, 0 crops;" in page  # not the rows of the tables
