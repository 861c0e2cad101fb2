"""The stage on noise crops and a network with random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from components.evaluate import Evaluate, evaluate
from emd_core.detection.crops import FaceCrops
from emd_core.detection.perturbations import PERTURBATIONS
from emd_core.errors import UserError
from emd_core.evaluation.scoring import score_frames
from emd_core.evaluation.slices import NOT_LOCALISED, as_they_are
from emd_core.models.baselines.meso import MesoConfig, MesoNet
from emd_core.models.checkpoint import Calibration, load_detector, save_detector
from emd_core.models.detector import Detector
from emd_core.models.emd import EMD, EMDConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.pages.evaluation_figures import save_panels
from emd_core.pages.overlays import one_of_each, overlays, worst_frames
from emd_core.storage.arrays import RowFiles
from emd_core.storage.manifest import FACES, MASKS, read_manifest, write_manifest
from emd_core.storage.masks import pack
from pipelines.summary import _results

SIZE = 48
CALIBRATION = Calibration(temperature=1.5, threshold=0.4)
CFG = Evaluate(batch_size=4, precision="fp32", methods=None, qualities=None, perturbations=[])
VIDEOS = [("original", "c23"), ("original", "c40"), ("Face2Face", "c23"), ("Face2Face", "c40"), ("DFDC", "c23")]


def write_crops(root: Path, splits: tuple[str, ...] = ("val", "test")) -> None:
    """In each split two targets, and of each two frames of each of VIDEOS; nobody knows the masks of DFDC."""
    rng = np.random.default_rng(0)
    rows = []
    for folder in ("faces", "masks"):
        (root / folder).mkdir(parents=True)
    with RowFiles(root / "faces", (SIZE, SIZE, 3)) as crops, RowFiles(root / "masks", (SIZE, SIZE // 8)) as masks:
        for split in splits:
            for i, (method, quality) in enumerate(VIDEOS * 2):
                target = f"{split}{i // len(VIDEOS)}"
                for number in range(2):
                    mask = np.zeros((SIZE, SIZE), bool)
                    mask[12:36, 12:36] = method == "Face2Face"
                    row: dict[str, Any] = {name: "" for name in MASKS.names}
                    row |= {"video": f"{method}/{quality}/{target}", "method": method, "quality": quality}
                    row |= {"label": int(method != "original"), "split": split, "target": target, "status": "ok"}
                    row |= dict.fromkeys(
                        ("width", "height", "crc32", "x", "y", "side", "score", "sharpness", "phash"), 0
                    )
                    row |= {"frame": number, "mask_share": np.nan if method == "DFDC" else mask.mean()}
                    row["file"] = f"{method}-{quality}.npy"
                    row["row"] = crops.extend(row["file"], rng.integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8))
                    masks.extend(row["file"], pack(mask)[None])
                    rows.append(row)
    table = pd.DataFrame(rows)
    write_manifest(root / "faces", table, FACES, {})
    write_manifest(root / "masks", table, MASKS, {"faces": read_manifest(root / "faces", FACES)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write_crops(root)
    (root / "model").mkdir()
    torch.manual_seed(0)
    config = EMDConfig(kind="emd", size=SIZE, expression=True, atrous_rates=(1, 1, 1), pixel_loss="mean")
    model = EMD(config, ESR(ESRConfig(size=54, branches=1)))
    with torch.no_grad():
        model.fc.weight *= 1000  # else an untrained network gives nearly the same score to every crop
    save_detector(root / "model" / CHECKPOINT, model, CALIBRATION)
    return root


@pytest.fixture(autouse=True)
def store(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{data}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{data}/mlflow.db")


def run(data: Path, out: Path, **changes: object) -> dict[str, Any]:
    cfg = CFG.model_copy(update=changes)
    evaluate(cfg, model=data / "model", faces=data / "faces", masks=data / "masks", evaluation=out)
    return dict(json.loads((out / "metrics.json").read_text()))


def test_all_that_the_stage_writes(data: Path, tmp_path: Path) -> None:
    metrics = run(data, tmp_path / "out", perturbations=["jpeg_q30", "h264_crf40"])
    plain = ["DFDC/c23", "Face2Face/c23", "Face2Face/c40"]
    assert list(metrics["slices"]) == sorted([*plain, *(f"{n}/{p}" for n in plain for p in ("jpeg_q30", "h264_crf40"))])
    assert metrics["precision"] == "fp32"
    assert metrics["size_mb"] == pytest.approx((data / "model" / CHECKPOINT).stat().st_size / 1e6, abs=1e-3)
    assert metrics["slices"]["DFDC/c23"]["miou"] is None
    assert metrics["slices"]["Face2Face/c23"]["videos"] == 4
    for name in ("jpeg_q30", "h264_crf40"):
        assert metrics["slices"][f"DFDC/c23/{name}"]["miou"] is None
        assert 0 <= metrics["slices"][f"Face2Face/c23/{name}"]["frame_auc"] <= 1
    page = (tmp_path / "out/report.html").read_text()
    assert all(text in page for text in ("unperturbed", "h264_crf40", "DFDC/c23", "temperature", "–"))
    assert page.count("data:image/png;base64,") == 4 and "None" not in page and "nan" not in page.lower()[:9000]
    predictions = pd.read_parquet(tmp_path / "out/predictions.parquet")
    assert len(predictions) == 3 * len(as_they_are(predictions))
    dfdc = predictions["method"] == "DFDC"
    assert (predictions["mask_share"].isna() == dfdc).all()
    assert (predictions.loc[dfdc, ["tn", "fp", "fn", "tp"]] == 0).all(axis=None)
    assert (predictions.loc[~dfdc, ["tn", "fp", "fn", "tp"]].sum(axis=1) == SIZE * SIZE).all()
    logged = mlflow.search_runs(search_all_experiments=True, filter_string="tags.stage = 'evaluate'").iloc[0]
    figure = metrics["slices"]["Face2Face/c40"]["miou"]
    assert logged["metrics.test/Face2Face/c40/miou"] == pytest.approx(figure)
    assert "metrics.test/DFDC/c23/miou" not in logged
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["test/Face2Face/c40/miou"] == figure and "test/DFDC/c23/miou" not in summary
    assert summary["test/DFDC/c23/frame_accuracy"] == metrics["slices"]["DFDC/c23"]["frame_accuracy"]
    assert len(summary) == 5
    pipeline = mlflow.get_run(logged["tags.mlflow.parentRunId"])
    assert pipeline.data.metrics == pytest.approx(summary)
    assert _results(metrics).columns[-1]._cells[:2] == ["–", f"{metrics['slices']['Face2Face/c23']['miou_floor']:.3f}"]


def test_worst_frames_are_wrong_ones_with_pictures_first(data: Path) -> None:
    detector, crops = load_detector(data / "model" / CHECKPOINT), FaceCrops(data / "faces", data / "masks", "test")
    frames, _ = score_frames(detector, crops, 8, "fp32")
    table = worst_frames(detector, crops, frames, "fp32", count=3)
    assert list(table.columns[:4]) == ["truth", "found", "score", "label"]
    error = (table["score"] - table["label"]).abs()
    assert len(table) == 3 and error.is_monotonic_decreasing and error.iloc[-1] > 0.5
    assert error.iloc[0] == pytest.approx((frames["score"] - frames["label"]).abs().max())
    assert all(p.shape[2] == 3 and p.dtype == np.uint8 for p in [*table["truth"], *table["found"]])
    assert worst_frames(detector, crops, frames.assign(score=frames["label"]), "fp32").empty


def test_a_network_that_does_not_localise_shows_no_masks(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "blind", ignore=shutil.ignore_patterns("mlflow.db"))
    network = MesoNet(MesoConfig(kind="meso4", size=32))
    save_detector(tmp_path / "blind/model" / CHECKPOINT, network, CALIBRATION)
    metrics = run(tmp_path / "blind", tmp_path / "out", perturbations=["jpeg_q30"])
    assert metrics["localises"] is False
    for name, figures in metrics["slices"].items():
        nothing = {figure for figure, value in figures.items() if value is None}
        assert nothing >= {"miou", "miou_floor", "pixel_accuracy", "pixel_auc", "iou_per_fake", "pixel_accuracy_low"}
        assert {metrics["unknown"][name][figure] for figure in nothing} == {NOT_LOCALISED}
        assert figures["frame_auc"] is not None and figures["masks"] == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "says whether a face is manipulated, but not where" in page and "mIoU" not in page
    assert not [name for name in json.loads((tmp_path / "out/summary.json").read_text()) if "miou" in name]
    crops = FaceCrops(data / "faces", data / "masks", "test")
    frames, pixels = score_frames(network.eval(), crops, 8, "fp32")
    assert not pixels and frames["mask_share"].notna().any()
    assert list(worst_frames(network, crops, frames, "fp32").columns[:2]) == ["truth", "score"]
    assert overlays(network, crops, one_of_each(crops.table), "fp32")


def test_an_epoch_shows_one_fake_of_each_kind_beside_its_truth(data: Path) -> None:
    detector, crops = load_detector(data / "model" / CHECKPOINT), FaceCrops(data / "faces", data / "masks", "test")
    rows = one_of_each(crops.table)
    assert list(rows) == ["DFDC c23", "Face2Face c23", "Face2Face c40"]
    assert all(crops.table.loc[row, "label"] == 1 for row in rows.values())
    pictures = overlays(detector, crops, rows, "fp32")
    assert list(pictures) == list(rows)
    assert all(p.shape[1] > 1.5 * p.shape[0] for p in pictures.values())  # two tiles side by side


def test_methods_that_the_network_did_not_learn_stand_behind_the_others_and_say_so(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "unknown")["unseen"] is None
    assert "unseen" not in (tmp_path / "unknown/report.html").read_text()
    detector = load_detector(data / "model" / CHECKPOINT)
    shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("mlflow.db"))
    save_detector(tmp_path / "data/model" / CHECKPOINT, detector, CALIBRATION, learned=["Face2Face"])
    assert run(tmp_path / "data", tmp_path / "out")["unseen"] == ["DFDC"]
    page = (tmp_path / "out/report.html").read_text()
    assert "learned nothing of DFDC" in page and "<td>DFDC/c23 <small>unseen</small>" in page
    assert page.index("<td>Face2Face/c40<td>") < page.index("<td>DFDC/c23 <small>")


def test_a_subset_is_judged_as_it_is_among_all(data: Path, tmp_path: Path) -> None:
    metrics = run(data, tmp_path / "out", methods=["Face2Face"], qualities=["c40"])
    assert list(metrics["slices"]) == ["Face2Face/c40"]
    assert metrics["slices"]["Face2Face/c40"]["frames"] == 8  # its originals are there
    assert "Robustness" not in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": ["Face2face"]}, "has no method Face2face; choose from DFDC, Face2Face, original"),
        ({"qualities": ["c0"]}, "has no quality c0; choose from c23, c40"),
        ({"perturbations": ["blur"]}, "names blur, .* choose from h264_crf23"),
        ({"methods": []}, "has no fakes"),
    ],
)
def test_wrong_choices_are_refused(data: Path, tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        run(data, tmp_path / "out", **changes)


@pytest.mark.parametrize("calibration", [CALIBRATION, None])
def test_data_for_testing_only_are_judged_by_what_the_network_carries(
    data: Path, tmp_path: Path, calibration: Calibration | None
) -> None:
    """DFD, Celeb-DF, UADFV and DeepfakeTIMIT have no val split; a published network may have had none either."""
    write_crops(tmp_path, ("test",))
    save_detector(tmp_path / "model" / CHECKPOINT, load_detector(data / "model" / CHECKPOINT), calibration)
    metrics = run(tmp_path, tmp_path / "out")
    figures, unknown = metrics["slices"]["Face2Face/c23"], metrics["unknown"]["Face2Face/c23"]
    assert metrics["calibration"] == (calibration and calibration._asdict())
    predictions = pd.read_parquet(tmp_path / "out/predictions.parquet").query("method != 'DFDC' and quality == 'c23'")
    right = (predictions["score"] > CALIBRATION.threshold) == (predictions["label"] == 1)
    assert figures["frame_accuracy_val_threshold"] == (right.mean() if calibration else None)
    assert set(unknown) == (set() if calibration else {"frame_accuracy_val_threshold", "ece_calibrated"})
    assert ("carries no temperature" in (tmp_path / "out/report.html").read_text()) == (calibration is None)


def test_a_val_split_that_is_there_changes_nothing(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "out")["calibration"] == CALIBRATION._asdict()


def test_answers_that_are_no_numbers_are_refused(data: Path, tmp_path: Path) -> None:
    network = load_detector(data / "model" / CHECKPOINT)
    with torch.no_grad():
        for weight in network.encoder.parameters():
            weight.mul_(1e30)  # finite, their products are not
    shutil.copytree(data, tmp_path / "data")
    save_detector(tmp_path / "data/model" / CHECKPOINT, network)
    with pytest.raises(UserError, match="the network's answers are not finite"):
        run(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def crops(data: Path) -> FaceCrops:
    return FaceCrops(data / "faces", data / "masks", "test")


def test_scores_do_not_depend_on_batches(data: Path, crops: FaceCrops) -> None:
    """Nor on the order in which they are scored: perturbed crops are read video by video."""
    model = load_detector(data / "model" / CHECKPOINT)
    (one, pixels), (other, same) = (score_frames(model, crops, n, "fp32", "gamma_1.4") for n in (1, 7))
    np.testing.assert_allclose(one["score"], other["score"], atol=1e-5)
    for key in pixels:
        for ours, theirs in zip(pixels[key].weighted(), same[key].weighted(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    plain, _ = score_frames(model, crops, 5, "fp32")
    assert not np.allclose(plain["score"], one["score"], atol=1e-5)
    assert one[["video", "frame", "mask_share"]].equals(plain[["video", "frame", "mask_share"]])
    brighter = crops.read(np.arange(len(crops))).image.numpy()
    brighter = np.rint(255 * (brighter / 255) ** 1.4).astype(np.uint8)
    with torch.inference_mode():
        logits, _ = model(torch.from_numpy(brighter).float() / 255)
    np.testing.assert_allclose(one["score"], logits.softmax(1)[:, 1].numpy(), atol=1e-5)


def test_a_clip_to_perturb_is_one_video(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where several fakes were made from one original and nobody knows their sources."""
    crops, lengths = FaceCrops(data / "faces", data / "masks", "test"), []
    monkeypatch.setattr(crops, "table", crops.table.assign(target="one"))
    monkeypatch.setitem(PERTURBATIONS, "as_is", lambda clip: lengths.append(len(clip)) or clip)
    score_frames(load_detector(data / "model" / CHECKPOINT), crops, 8, "fp32", "as_is")
    assert lengths == [2] * 10


def titles(monkeypatch: pytest.MonkeyPatch, path: Path, model: Detector, crops: FaceCrops) -> list[str]:
    shown: list[str] = []
    monkeypatch.setattr("emd_core.pages.evaluation_figures._show", lambda axis, title, picture: shown.append(title))
    frames, _ = score_frames(model, crops, 8, "fp32")
    save_panels(path, model, crops, frames, "fp32")
    return shown


def test_panels_of_what_there_is(data: Path, crops: FaceCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_detector(data / "model" / CHECKPOINT)
    shown = titles(monkeypatch, tmp_path / "panels.png", model, crops)
    assert len(shown) == 3 * 2 * 5  # slices, rows, columns
    assert shown.count("no mask") == 2 and shown.count("true mask") == 4
    alone = FaceCrops(data / "faces", data / "masks", "test", ["DFDC"])
    monkeypatch.setattr(model, "fer", None)
    monkeypatch.setattr(
        model, "forward", lambda image, _: (torch.randn(len(image), 2), torch.randn(image[:, :1].shape))
    )
    shown = titles(monkeypatch, tmp_path / "panels.png", model, alone)
    assert len(shown) == 3 * 4 and not any("expression" in title for title in shown)
