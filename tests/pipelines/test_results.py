"""The page of results: our numbers and the paper's, from the folders that cells leave."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emd_core.storage.manifest import FACES, MASKS, read_manifest, write_manifest
from pipelines.paper.results import write_results
from pipelines.paper.tables import Results, across_tables, joint_tables, paper_tables, seeds_table, unseen_tables
from tests.house.contract import ROOT

FIGURES = {"frame_auc": 0.9, "video_accuracy": 0.85, "pixel_accuracy_floor": 0.8, "miou_floor": 0.4}
CURVES = {"slice": ["s"] * 4, "task": ["frame", "frame", "pixel", "pixel"], "fpr": [0, 1, 0, 1], "tpr": [0, 1, 0, 1]}


def figures(accuracy: float, **changes: float | None) -> dict[str, float | None]:
    """The metrics of a slice."""
    values: dict[str, float | None] = {"frame_accuracy": accuracy, "pixel_accuracy": 0.95, "miou": 0.7, **FIGURES}
    for name in ("frame_accuracy", "pixel_accuracy", "miou"):
        values |= {f"{name}_low": values[name] - 0.02, f"{name}_high": values[name] + 0.01}  # type: ignore[operator]
    return values | changes


def finish(root: Path, params: dict[str, Any], name: str, values: dict[str, float | None], **cell: Any) -> None:
    """Leave what a finished cell leaves."""
    network, method, quality = cell.pop("network"), cell.pop("method", "Face2Face"), cell.pop("quality", "c23")
    params["cells"][name] = {"network": network, "method": method, "quality": quality, "data": str(root), **cell}
    folder = root / "cells" / name / "evaluation"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"slices": {f"{method}/{quality}": values}}))
    pd.DataFrame(CURVES).to_csv(folder / "roc.csv", index=False)
    (folder / "panels.png").write_bytes(b"a picture")


@pytest.fixture
def made(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """Three seeds of both twins, one small training, one cell without masks; 5 training videos in the data."""
    shutil.copy(ROOT / "experiments/paper.yaml", tmp_path)
    params: dict[str, Any] = {"profile": "sample", "cells": {}}
    for seed, (emd, twin) in enumerate([(0.90, 0.88), (0.96, 0.97), (0.93, 0.91)]):
        finish(tmp_path, params, f"emd-{seed}", figures(emd), network="emd", seed=seed)
        finish(tmp_path, params, f"xception-{seed}", figures(twin), network="xception", seed=seed)
    finish(tmp_path, params, "emd-2-videos", figures(0.6), network="emd", targets=2)
    without = figures(0.7, pixel_accuracy=None, miou=None)
    finish(tmp_path, params, "emd-DFDC", without, network="emd", method="DFDC", quality="released")
    rows = [{n: "" for n in MASKS.names} | {"status": "ok", "split": "train", "target": str(k)} for k in range(5)]
    numbers = {f.name: 0 for f in MASKS if not str(f.type).startswith("string")}
    table = pd.DataFrame(rows).assign(**numbers)
    for folder, schema in (("faces", FACES), ("masks", MASKS)):
        (tmp_path / folder).mkdir()
        write_manifest(tmp_path / folder, table, schema, {})
    assert read_manifest(tmp_path / "masks", MASKS).table["target"].nunique() == 5
    return params, tmp_path


def test_a_cell_of_the_paper_stands_beside_ours(made: tuple[dict[str, Any], Path]) -> None:
    table2, _, accuracy4, *_ = paper_tables(Results(*made))
    rows = dict(table2.rows)
    emd = dict(zip(table2.columns, rows["EMD"], strict=True))
    assert emd["F2F HQ"] is not None
    assert emd["F2F HQ"].value == "90.0"
    assert list(emd["F2F HQ"].beside) == ["[88.0, 91.0]", "videos 85.0", "paper 99.03"]
    assert emd["NT HQ"] is None  # not done
    assert emd["DFDC"] is not None and emd["DFDC"].value == "70.0"
    assert rows["MultiTask"] == [None] * 7
    twin = rows["Xception + DeepLabV3+, no FER"][0]
    assert twin is not None and list(twin.beside)[-1] == "literature 98.23"  # copied by the paper
    first = dict(accuracy4.rows)["EMD"][0]
    assert first is not None and list(first.beside) == ["[93.0, 96.0]", "floor 80.0", "paper 98.43"]


def test_seeds_are_compared_pair_by_pair(made: tuple[dict[str, Any], Path]) -> None:
    rows = dict(seeds_table(Results(*made)).rows)
    emd, twin, difference = (entries[0] for entries in rows.values())
    assert emd is not None and twin is not None and difference is not None
    assert (emd.value, twin.value, difference.value) == ("93.0", "92.0", "1.0")
    assert emd.beside[0] == f"± {100 * np.std([0.90, 0.96, 0.93], ddof=1):.1f}"
    assert difference.beside[1] == "(2.0, -1.0, 2.0)"


def test_the_page_and_its_markdown_show_the_same(made: tuple[dict[str, Any], Path]) -> None:
    params, root = made
    page = write_results(params, root)
    html, markdown = page.read_text(), (root / "results.md").read_text()
    assert "8 of 8 cells are done" in html
    assert "Generated sample data" in html and "Generated sample data" in markdown
    assert "**90.0** [88.0, 91.0] videos 85.0 paper 99.03" in markdown
    for title in ("Table 2", "Table 3", "Table 4", "Table 5", "Figure 4a", "Figure 4c", "Figure 5"):
        assert title in html and title in markdown
    assert "Figure 4b" not in html  # no NeuralTextures cell is done
    links = [line.split("](")[1].rstrip(")") for line in markdown.splitlines() if line.startswith("![")]
    assert links and all((root / link).is_file() for link in links)
    write_results(params | {"profile": "ffpp"}, root)
    assert "Generated sample data" not in page.read_text()


def test_unseen_manipulations_stand_apart_from_those_that_were_learned(tmp_path: Path) -> None:
    shutil.copy(ROOT / "experiments/paper.yaml", tmp_path)
    cells = {f"emd-{m}": {"network": "emd", "unseen": m, "quality": "c23"} for m in ("Face2Face", "NeuralTextures")}
    results = Results({"cells": cells}, tmp_path)
    assert unseen_tables(results) == []
    for cell, aucs in zip(cells, [(0.6, 0.9), (0.8, 0.7)], strict=True):
        pairs = zip(("Face2Face/c23", "NeuralTextures/c23"), aucs, strict=True)
        slices = {name: figures(0.9, frame_auc=a, frame_auc_low=0.5, frame_auc_high=1.0) for name, a in pairs}
        folder = results.folder(cell)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"slices": slices}))
    left_out, learned = unseen_tables(results)
    assert left_out.columns == learned.columns == ["F2F HQ", "NT HQ"]
    assert [(label, [e and e.value for e in row]) for label, row in left_out.rows] == [("EMD", ["60.0", "70.0"])]
    assert [(label, [e and e.value for e in row]) for label, row in learned.rows] == [
        ("EMD, all but Face2Face", [None, "90.0"]),
        ("EMD, all but NeuralTextures", ["80.0", None]),
    ]


def test_data_sets_that_the_joint_network_did_not_learn(tmp_path: Path) -> None:
    assert across_tables(tmp_path) == []
    for name, auc in (("DFDC", 0.6), ("Celeb-DF", 0.7)):
        folder = tmp_path / "across" / name
        folder.mkdir(parents=True)
        slices = {f"{name}/released": figures(0.9, frame_auc=auc, video_auc=auc, miou=None)}
        (folder / "metrics.json").write_text(json.dumps({"slices": slices}))
    (table,) = across_tables(tmp_path)
    assert [(label, [e and e.value for e in row]) for label, row in table.rows] == [
        ("Celeb-DF: Celeb-DF/released", ["90.0", "70.0", "70.0", "–"]),
        ("DFDC: DFDC/released", ["90.0", "60.0", "60.0", "–"]),
    ]


def test_the_joint_network(made: tuple[dict[str, Any], Path]) -> None:
    _, root = made
    assert joint_tables(root) == []
    both = {"jpeg_q30": 0.8, "h264_crf40": 0.6}  # accuracy and AUC alike
    hurt = {f"Face2Face/c23/{name}": figures(x, frame_auc=x) for name, x in both.items()}
    for name, extra in (("robustness", hurt), ("difference", {})):
        (root / name).mkdir()
        slices = {"Face2Face/c23": figures(0.9)} | extra
        (root / name / "metrics.json").write_text(json.dumps({"slices": slices}))
    _, sources, accuracy, auc = joint_tables(root)
    assert len(sources.columns) == 4
    for table in (accuracy, auc):
        assert [(label, row[0] and row[0].value) for label, row in table.rows] == [
            ("as it is", "90.0"),
            ("jpeg_q30", "80.0"),
            ("h264_crf40", "60.0"),
            ("mean of the perturbed", "70.0"),
        ]
