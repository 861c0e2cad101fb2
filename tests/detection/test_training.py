"""Training: balanced epochs, and a run that was killed ends as one that was not."""

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components import train_emd as stage
from emd_core.detection import training as core
from emd_core.detection.calibration import calibrate
from emd_core.detection.crops import FaceCrops, balanced_order
from emd_core.detection.inputs import mirror
from emd_core.detection.training import choose_targets, fitted, keep_weights, train_emd, validate
from emd_core.errors import UserError
from emd_core.evaluation.scoring import score_frames
from emd_core.models.baselines.meso import MesoConfig, MesoNet
from emd_core.models.checkpoint import load_calibration, load_detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr
from emd_core.storage.manifest import FACES, MASKS, read_manifest, write_manifest
from emd_core.storage.validity import require_validated
from emd_core.training.output import best_metrics
from emd_core.training.resuming import Preemption
from tests.fakes.processes import exit_code
from tests.fakes.training_data import EMD, ON, SIZE, train, write_training_data

FIGURES = {"val/accuracy", "val/balanced_accuracy", "val/loss"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    """The model and the history of a training of EMD with everything switched on."""
    work = tmp_path_factory.mktemp("whole")
    history = train(data, work, recipe=ON, cfg=EMD)
    return work / CHECKPOINT, history


def test_a_killed_training_ends_with_the_same_model(whole: Any, data: Path, tmp_path: Path) -> None:
    model, history = whole
    after_the_warm_up = 0  # the optimizer's state knows nothing yet of what was fixed
    assert exit_code(train, data, tmp_path, after_the_warm_up, EMD.save_minutes, ON, EMD) == -signal.SIGKILL
    assert train(data, tmp_path, recipe=ON, cfg=EMD) == history
    assert (tmp_path / CHECKPOINT).read_bytes() == model.read_bytes()


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Gets the rows of all that a training loads."""
    loaded, load = [], core.load

    def recorded(crops: FaceCrops, order: np.ndarray, *more: Any) -> Any:
        loaded.append(order)
        return load(crops, order, *more)

    monkeypatch.setattr(core, "load", recorded)
    return loaded


def test_self_blends_take_the_place_of_fakes(data: Path, tmp_path: Path, orders: list[np.ndarray]) -> None:
    train(data, tmp_path / "run", recipe=ON.model_copy(update={"self_blends": 1, "average": 0}))
    assert [(order < 0).mean() for order in orders] == [0.5] * (EMD.warmup_epochs + EMD.epochs)


def test_averaged_weights_have_statistics_of_the_first_batches_of_each_epoch(
    data: Path, tmp_path: Path, orders: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "STATISTICS", 2)
    train(data, tmp_path / "run", recipe=ON)
    learned, again = orders[::2], orders[1::2]
    assert len(learned) == len(again) == EMD.warmup_epochs + EMD.epochs
    for epoch, first in zip(learned, again, strict=True):
        assert len(epoch) > len(first) == 2 * EMD.batch_size and (epoch[: len(first)] == first).all()
    norms = {
        k: int(v) for k, v in load_detector(tmp_path / "run" / CHECKPOINT).state_dict().items() if "num_batches" in k
    }
    assert 2 in norms.values() and set(norms.values()) <= {0, 2}  # 0: what never learned


def test_the_first_loss_that_is_not_finite_stops_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three steps in an epoch the fifth fails: the model and the state of the first epoch stay."""
    sound, calls = MultiTask.loss, []

    def loss(self: MultiTask, *inputs: Any) -> torch.Tensor:
        calls.append(1)
        return sound(self, *inputs) * (math.nan if len(calls) >= 5 else 1)

    with monkeypatch.context() as patched, pytest.raises(UserError) as refused:
        patched.setattr(MultiTask, "loss", loss)
        train(data, tmp_path / "run")
    assert "the loss is nan in step 2 of epoch 2, at a learning rate of 0.001" in str(refused.value)
    load_detector(tmp_path / "run" / CHECKPOINT)
    mended = train(data, tmp_path / "run")  # goes on with the second epoch
    assert mended == train(data, tmp_path / "whole")


def test_a_training_that_diverges_at_once_leaves_no_model(data: Path, tmp_path: Path) -> None:
    cfg = EMD.model_copy(update={"lr": 1e30, "warmup_epochs": 0})
    ways = {"faces": data / "faces", "masks": data / "masks", "fer": data / "fer" / CHECKPOINT, "work": tmp_path}
    with pytest.raises(
        UserError, match=r"in step [23] of epoch 1, at a learning rate of 1e\+30: the training diverges"
    ):
        train_emd(cfg, **ways, on_epoch=lambda epoch, metrics: None)
    assert list(tmp_path.iterdir()) == []


def test_a_validation_without_manipulated_pixels_has_no_miou(data: Path) -> None:
    val = FaceCrops(data / "faces", data / "masks", "val")
    val.table = val.table[val.table["label"] == 0].reset_index(drop=True)
    network = MultiTask(MultiTaskConfig(kind="multitask", size=SIZE, expression=False), None)
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            parameter.zero_()
    figures, _ = validate(network, val, EMD, Preemption(""))
    assert set(figures) == FIGURES and all(map(math.isfinite, figures.values()))


def test_a_network_that_calls_everything_a_fake_is_no_better_than_a_coin_by_balanced_accuracy(data: Path) -> None:
    val = FaceCrops(data / "faces", data / "masks", "val")
    rows = np.concatenate([np.flatnonzero(val.table["label"] == 1), np.flatnonzero(val.table["label"] == 0)[:1]])
    val.table = val.table.iloc[rows].reset_index(drop=True)
    network = MesoNet(MesoConfig(kind="meso4", size=64))
    with torch.no_grad():
        network.classifier[-1].bias.fill_(-1e6)  # its output is the original's
    figures, _ = validate(network, val, EMD, Preemption(""))
    assert figures["val/accuracy"] == pytest.approx(1 - 1 / len(rows)) and figures["val/balanced_accuracy"] == 0.5
    earlier = {"val/accuracy": 0.6, "val/balanced_accuracy": 0.6, "val/loss": 1.0}
    assert best_metrics([earlier, figures])["best/val_accuracy"] == 0.6


def test_temperature_and_threshold_of_the_kept_epoch_come_with_the_model(data: Path, tmp_path: Path) -> None:
    history = train(data, tmp_path / "run")
    path, val = tmp_path / "run" / CHECKPOINT, FaceCrops(data / "faces", data / "masks", "val")
    frames, _ = score_frames(load_detector(path), val, EMD.batch_size, "fp32")
    own = load_calibration(path)
    assert own == pytest.approx(calibrate(frames["label"].to_numpy(), frames["score"].to_numpy()), abs=1e-3)
    assert own in [fitted(metrics) for metrics in history]


def test_a_published_network_is_kept_without_any_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    network = MultiTaskConfig(kind="multitask", size=SIZE, expression=False)
    cfg = EMD.model_copy(update={"network": network, "warmup_epochs": 0, "epochs": 0})
    stage.train_emd(cfg, model=tmp_path / "bare")
    assert load_calibration(tmp_path / "bare" / CHECKPOINT) is None
    assert json.loads((tmp_path / "bare/metrics.json").read_text()) == {}
    stage.train_emd(cfg, faces=data / "faces", masks=data / "masks", model=tmp_path / "judged")
    metrics = json.loads((tmp_path / "judged/metrics.json").read_text())
    own = load_calibration(tmp_path / "judged" / CHECKPOINT)
    assert own is not None and metrics["best/val_temperature"] == own.temperature
    kept = [load_detector(tmp_path / name / CHECKPOINT).state_dict() for name in ("bare", "judged")]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    for wrong, told in (
        ({"epochs": 1}, "train_emd needs --faces, --masks and --report"),
        ({"network": EMD.network}, "so the network needs --fer"),
    ):
        with pytest.raises(UserError, match=told):
            stage.train_emd(cfg.model_copy(update=wrong), model=tmp_path / "wrong")


def test_it_learns_what_can_be_seen(data: Path, tmp_path: Path) -> None:
    """Loss of the training falls; the kept model is the best by balanced validation accuracy."""
    history = train(data, tmp_path / "run")
    assert history[-1]["train/loss"] < history[0]["train/loss"]
    assert len(history) == EMD.warmup_epochs + EMD.epochs


def test_the_expression_network_comes_through_training_untouched(whole: Any, data: Path) -> None:
    """Every parameter and batch statistic of phi is what the first loop of Algorithm 1 left."""
    trained = load_detector(whole[0])
    before = load_esr(data / "fer" / CHECKPOINT).state_dict()
    assert trained.fer is not None
    after = trained.fer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_epochs_keep_published_weights_as_they_are(data: Path, tmp_path: Path) -> None:
    network = MultiTaskConfig(kind="multitask", size=SIZE, expression=False)
    published = MultiTask(network, None)
    for part in ("encoder", "decoder"):
        torch.save(getattr(published, part).state_dict(), tmp_path / f"{part}_46.pt")
    changes = {"network": network, "weights": str(tmp_path), "warmup_epochs": 0, "epochs": 0}
    history: list[dict[str, float]] = []
    keep_weights(
        EMD.model_copy(update=changes),
        faces=data / "faces",
        masks=data / "masks",
        fer=tmp_path / "none.safetensors",  # not needed without expression features
        work=tmp_path,
        on_epoch=lambda epoch, metrics: history.append(metrics),
    )
    loaded = load_detector(tmp_path / CHECKPOINT).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in published.state_dict().items())
    assert set(history[0]) == FIGURES | {"val/miou", "val/temperature", "val/threshold"}


def test_fewer_training_videos_are_a_part_of_more(data: Path) -> None:
    table = FaceCrops(data / "faces", data / "masks", "train").table
    chosen = [set(choose_targets(table, EMD.model_copy(update={"targets": n})).tolist()) for n in (2, 5, 12, None)]
    assert [table.iloc[sorted(rows)]["target"].nunique() for rows in chosen] == [2, 5, 12, 12]
    assert chosen[0] < chosen[1] < chosen[2] == chosen[3]
    with pytest.raises(UserError, match="train_emd.targets is 13, but the train split has 12 targets"):
        choose_targets(table, EMD.model_copy(update={"targets": 13}))


def test_data_without_masks_train_on_classification_alone(data: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(data / "masks", masks)
    table = read_manifest(masks, MASKS).table.assign(mask_share=np.nan)
    write_manifest(masks, table, MASKS, {"faces": read_manifest(data / "faces", FACES)})
    history: list[dict[str, float]] = []
    train_emd(
        EMD.model_copy(update={"warmup_epochs": 0, "epochs": 1}),
        faces=data / "faces",
        masks=masks,
        fer=data / "fer" / CHECKPOINT,
        work=tmp_path,
        on_epoch=lambda epoch, metrics: history.append(metrics),
    )
    assert set(history[0]) == FIGURES | {"train/loss", "val/temperature", "val/threshold"}
    assert np.isfinite(history[0]["train/loss"])


def test_crops_of_some_methods_only(data: Path) -> None:
    crops = FaceCrops(data / "faces", data / "masks", "train", ["Face2Face"], ["c23"])
    assert set(crops.table["method"]) == {"original", "Face2Face"}
    with pytest.raises(UserError, match="has no method Deepfakes; choose from Face2Face, original"):
        FaceCrops(data / "faces", data / "masks", "train", ["Deepfakes"])
    with pytest.raises(UserError, match="has no quality c40; choose from c23"):
        FaceCrops(data / "faces", data / "masks", "train", None, ["c40"])


def test_a_missing_expression_network_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.safetensors does not exist; train the network first"):
        train_emd(
            EMD,
            faces=data / "faces",
            masks=data / "masks",
            fer=tmp_path / "none.safetensors",
            work=tmp_path,
            on_epoch=lambda epoch, metrics: None,
        )


@pytest.mark.parametrize("change", [{"batch_size": 13}, {"label": 1}], ids=["less than a batch", "one class only"])
def test_too_little_to_train_on_is_refused(data: Path, tmp_path: Path, change: dict[str, int]) -> None:
    faces, masks = data / "faces", data / "masks"
    if "label" in change:
        masks = tmp_path / "masks"
        shutil.copytree(data / "masks", masks)
        table = read_manifest(masks, MASKS).table.assign(label=1)
        write_manifest(masks, table, MASKS, {"faces": read_manifest(faces, FACES)})
    cfg = EMD.model_copy(update={"batch_size": change.get("batch_size", 4)})
    fer = data / "fer" / CHECKPOINT
    with pytest.raises(UserError, match="needs both classes and at least one batch"):
        train_emd(cfg, faces=faces, masks=masks, fer=fer, work=tmp_path, on_epoch=lambda epoch, metrics: None)


def test_crops_and_masks_are_read_in_the_order_asked(data: Path) -> None:
    crops = FaceCrops(data / "faces", data / "masks", "val")
    batch = crops.read(np.array([3, 0]))
    assert batch.label.tolist() == [1, 0]
    assert batch.image.shape == (2, 3, SIZE, SIZE)
    assert batch.mask[0, 0, 12:36, 12:36].all()
    assert batch.mask.sum() == 24 * 24
    assert (batch.image[0, :, 12:36, 12:36] == 128).all()


def test_a_split_without_crops_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match="no usable crop in split 'test'"):
        FaceCrops(data / "faces", data / "masks", "test")


def test_masks_of_another_run_are_refused(data: Path, tmp_path: Path) -> None:
    table = read_manifest(data / "faces", FACES).table
    table["crc32"] += 1
    write_manifest(tmp_path, table, FACES, {})
    with pytest.raises(UserError, match="--masks was made from another run's --faces"):
        FaceCrops(tmp_path, data / "masks", "val")


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (None, "does not exist; run validate_data first"),
        ({"success": True, "masks": "another run"}, "does not say that these --masks are valid"),
        ({"success": False}, "does not say that these --masks are valid"),
    ],
    ids=["no report", "of another run", "failed"],
)
def test_only_validated_data_are_trained_on(
    data: Path, tmp_path: Path, verdict: dict[str, object] | None, sentence: str
) -> None:
    masks = read_manifest(data / "masks", MASKS)
    if verdict is not None:
        (tmp_path / "validity.json").write_text(json.dumps({"masks": masks.id} | verdict))
    with pytest.raises(UserError, match=sentence):
        require_validated(tmp_path, masks)
    (tmp_path / "validity.json").write_text(json.dumps({"success": True, "masks": masks.id}))
    require_validated(tmp_path, masks)


@pytest.mark.parametrize(("real", "fake"), [(2, 6), (5, 5), (7, 3)])
def test_an_epoch_is_balanced_and_misses_nothing(real: int, fake: int) -> None:
    label = np.array([0] * real + [1] * fake)
    order = balanced_order(label, np.random.default_rng(0))
    counts = np.bincount(order, minlength=len(label))
    longer = max(real, fake)
    assert counts[label == 0].sum() == counts[label == 1].sum() == longer
    assert counts[label == 0].max() - counts[label == 0].min() <= 1
    assert counts.min() >= 1


def test_mirror_flips_only_the_chosen() -> None:
    x = torch.arange(8).reshape(2, 1, 2, 2)
    flipped = mirror(x, torch.tensor([True, False]))
    assert flipped[0, 0].tolist() == [[1, 0], [3, 2]]
    assert torch.equal(flipped[1], x[1])
