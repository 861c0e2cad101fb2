"""One cell of the tables: what is learned, and what is judged."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import components.evaluate
import components.train_emd
from emd_core.errors import UserError
from emd_core.storage.manifest import MASKS, ORIGINAL, write_manifest
from pipelines.cell import cell
from tests.house.contract import ROOT

METHODS = ("Deepfakes", "Face2Face", "NeuralTextures")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The stages' configs as a cell of this data calls them, by step, and the data's folder."""
    strings = [field.name for field in MASKS if str(field.type).startswith("string")]
    numbers = {field.name: 0 for field in MASKS if field.name not in strings}
    table = pd.DataFrame([dict.fromkeys(strings, "") | numbers | {"method": m} for m in (ORIGINAL, *METHODS)])
    (tmp_path / "masks").mkdir()
    write_manifest(tmp_path / "masks", table, MASKS, {})
    kept: dict[str, Any] = {"data": tmp_path}
    monkeypatch.setattr(components.train_emd, "train_emd", lambda cfg, **_: kept.update(train=cfg))
    monkeypatch.setattr(components.evaluate, "evaluate", lambda cfg, **_: kept.update(judge=cfg))
    monkeypatch.setenv("EMD_PIPELINE_RUN", "a test")
    monkeypatch.chdir(ROOT)
    return kept


def run(asked: dict[str, Any], **which: str) -> None:
    paths = {"data": asked["data"], "fer": asked["data"], "out": asked["data"]}
    cell("train", network="emd", quality="c23", **paths, **which)
    cell("judge", network="emd", quality="c23", **paths, **which)


def test_a_method_is_learned_and_judged(asked: dict[str, Any]) -> None:
    run(asked, method="Face2Face")
    assert asked["train"].methods == asked["judge"].methods == ["Face2Face"]
    assert asked["train"].qualities == asked["judge"].qualities == ["c23"]


def test_an_unseen_method_is_judged_with_the_others_but_not_learned(asked: dict[str, Any]) -> None:
    run(asked, unseen="Face2Face")
    assert asked["train"].methods == ["Deepfakes", "NeuralTextures"] and asked["judge"].methods is None


@pytest.mark.parametrize(
    ("which", "says"), [({}, "name one of the two"), ({"unseen": "FaceSwap"}, "Deepfakes, Face2Face, NeuralTextures")]
)
def test_a_cell_that_cannot_be_is_refused(asked: dict[str, Any], which: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        run(asked, **which)
