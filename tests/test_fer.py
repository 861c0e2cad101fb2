"""The expression network: AffectNet's two layouts, the recipes, the published weights."""

import json
import multiprocessing
import os
import signal
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components import train_fer as component
from components.training_output import best_metrics
from emd_core.affectnet import IMAGES, AffectNet
from emd_core.config import read_params, section
from emd_core.errors import Preempted, UserError
from emd_core.losses import expression_loss
from emd_core.models.checkpoint import CHECKPOINT, load_esr
from emd_core.models.esr import ESR, EXPRESSIONS, ESRConfig
from emd_core.models.published_esr import BASE, BRANCH, load_published_esr
from emd_core.models.weights import load_exactly, read_state_dict
from emd_core.train_fer import BranchByBranch, Joint, Published, TrainFer, draw, make_optimizer, phases, train_fer
from emd_core.training import Resumable
from tests.contract import ROOT

JOINT = Joint(kind="joint", epochs=2, lr=1e-3, augment=True)
ONE_BY_ONE = BranchByBranch(
    kind="branch_by_branch",
    first_epochs=3,
    epochs=2,
    lr=0.02,
    old_lr=0.01,
    momentum=0.9,
    lr_step=1,
    lr_gamma=0.5,
    images_per_class=2,
    validate_every=2,
)
FER = TrainFer(seed=0, network=ESRConfig(size=54, branches=1), recipe=JOINT, batch_size=8, precision="fp32", workers=0)
TWO = FER.model_copy(update={"recipe": ONE_BY_ONE, "network": ESRConfig(size=54, branches=2)})


def write_newer(root: Path, train: int = 4, val: int = 1) -> Path:
    """Eight brightnesses as eight expressions; category 8 is no expression."""
    rng = np.random.default_rng(0)
    for folder, n in (("train_set", train), ("val_set", val)):
        (root / folder / "images").mkdir(parents=True)
        (root / folder / "annotations").mkdir()
        for label in range(9):
            for k in range(n):
                image = np.clip(30 * label + rng.normal(0, 3, (60, 60, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / folder / "images" / f"{label}{k}.jpg"), image)
                np.save(root / folder / "annotations" / f"{label}{k}_exp.npy", str(label))
    return root


@pytest.fixture
def expressions(tmp_path: Path) -> Path:
    return write_newer(tmp_path / "affectnet")


def train(cfg: TrainFer, expressions: Path, work: Path, kill_after: int | None = None) -> list[dict[str, float]]:
    work.mkdir(exist_ok=True)
    history: list[dict[str, float]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        assert epoch == len(history)
        history.append(metrics)
        if epoch == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    train_fer(cfg, expressions=expressions, work=work, on_epoch=on_epoch)
    return history


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Data, the folder of a training that was not killed, and its metrics."""
    root = tmp_path_factory.mktemp("whole")
    return write_newer(root / "affectnet"), root / "run", train(TWO, root / "affectnet", root / "run")


# Recipes


def test_all_branches_together_are_one_phase() -> None:
    (phase,) = phases(JOINT, 9)
    assert (phase.branches, phase.epochs, phase.images_per_class) == (9, 2, None)
    assert phase.lrs_at(0) == phase.lrs_at(1) == [1e-3] * 10
    assert phase.validates(0)


def test_the_published_recipe() -> None:
    """Siqueira et al.: 50 epochs, then 20 for each further branch; rates halve every ten epochs of a phase."""
    recipe = section(read_params(ROOT / "params/ffpp.yaml"), "train_fer", TrainFer, "ffpp.yaml").recipe
    assert isinstance(recipe, BranchByBranch)
    table = [(p.branches, p.epochs, p.images_per_class, p.lrs) for p in phases(recipe, 9)]
    assert table[0] == (1, 50, 5000, (0.1, 0.1))
    assert table[1] == (2, 20, 5000, (0.01, 0.01, 0.1))
    assert table[2] == (3, 20, 5000, (0.01, 0.01, 0.01, 0.1))
    assert [row[:3] for row in table[3:]] == [(n, 20, 5000) for n in range(4, 10)]
    assert table[8][3] == (0.01,) * 9 + (0.1,)
    second = phases(recipe, 2)[1]
    assert second.lrs_at(9) == [0.01, 0.01, 0.1]
    assert second.lrs_at(10) == [0.005, 0.005, 0.05]
    assert [e for e in range(20) if second.validates(e)] == list(range(1, 20, 2))
    odd = recipe.model_copy(update={"epochs": 3})
    assert [e for e in range(3) if phases(odd, 2)[1].validates(e)] == [1, 2]


def test_only_the_phases_branches_learn() -> None:
    model = ESR(ESRConfig(size=54, branches=3)).eval()
    optimizer = make_optimizer(ONE_BY_ONE, model, phases(ONE_BY_ONE, 3)[1])
    assert isinstance(optimizer, torch.optim.SGD)
    groups = optimizer.param_groups
    assert [(g["lr"], g["momentum"]) for g in groups] == [(0.01, 0.9), (0.01, 0.9), (0.02, 0.9)]
    parts = [model.base, model.branches[0], model.branches[1]]
    for group, part in zip(groups, parts, strict=True):
        assert {id(p) for p in group["params"]} == {id(p) for p in part.parameters()}
    assert model(torch.rand(1, 3, 54, 54), 2)[1].shape == (1, 2, 8)
    assert isinstance(make_optimizer(JOINT, model, phases(JOINT, 3)[0]), torch.optim.Adam)


def test_a_draw_is_balanced_and_changes_with_the_branch(expressions: Path) -> None:
    train = AffectNet(expressions, "train", 54)
    train.labels[1] = 7  # class 0 has three images left, class 7 five
    draws = [draw(train, 4, np.random.default_rng([0, n])).indices for n in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == len(draws[0])
    assert np.bincount(train.labels[draws[0]]).tolist() == [3] + [4] * 7
    assert list(draw(train, None, np.random.default_rng(0)).indices) == list(range(32))


def test_branches_are_added_one_after_another(whole: Any) -> None:
    _, run, history = whole
    assert [m["train/branches"] for m in history] == [1, 1, 1, 2, 2]
    assert ["val/accuracy" in m for m in history] == [False, True, True, False, True]
    assert "val/branch_2_accuracy" not in history[2]
    assert set(history[4]) == {"train/loss", "train/branches", "val/accuracy"} | {
        f"val/branch_{k}_accuracy" for k in (1, 2)
    }
    first, last = (load_esr(run / "phases" / n / CHECKPOINT).state_dict() for n in "12")
    assert any(not torch.equal(first[k], last[k]) for k in first if k.startswith("branches.0."))
    torch.manual_seed(TWO.seed)
    fresh = ESR(TWO.network).state_dict()
    second = [k for k in first if k.startswith("branches.1.")]
    assert all(torch.equal(first[k], fresh[k]) for k in second), "it did not wait for its turn"
    assert any(not torch.equal(last[k], fresh[k]) for k in second)


def test_a_phase_starts_from_the_best_model_of_the_one_before_on_other_images(
    expressions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.9, 0.1, 0.2])  # the first phase is best before its last epoch

    def score(*_: Any) -> dict[str, float]:
        return {"val/accuracy": next(scores)}

    started: list[Tensor] = []

    def spy(recipe: Any, model: nn.Module, phase: Any) -> torch.optim.Optimizer:
        started.append(model.state_dict()["base.conv1.weight"].clone())
        return make_optimizer(recipe, model, phase)

    drawn: list[list[int]] = []

    def spy_draw(*arguments: Any) -> Any:
        subset = draw(*arguments)
        drawn.append(list(subset.indices))
        return subset

    monkeypatch.setattr("emd_core.train_fer.validate", score)
    monkeypatch.setattr("emd_core.train_fer.draw", spy_draw)
    monkeypatch.setattr("emd_core.train_fer.make_optimizer", spy)
    history = train(TWO, expressions, tmp_path / "run")
    best = load_esr(tmp_path / "run/phases/1" / CHECKPOINT).base.conv1.weight
    last = torch.load(tmp_path / "run/phases/1/checkpoint.pt", weights_only=True)["model"]["base.conv1.weight"]
    assert torch.equal(started[1], best)
    assert not torch.equal(started[1], last)
    assert drawn[0] != drawn[1], "each branch has its own images"
    assert best_metrics(history)["best/val_accuracy"] == 0.2, "the best one with all branches"


@pytest.mark.parametrize("kill_after", [1, 2, 3], ids=["mid-phase", "at the boundary", "in the last phase"])
def test_a_killed_training_ends_with_the_same_model(whole: Any, tmp_path: Path, kill_after: int) -> None:
    expressions, finished, history = whole
    arguments = (TWO, expressions, tmp_path / "killed", kill_after)
    killed = multiprocessing.get_context("spawn").Process(target=train, args=arguments)
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / CHECKPOINT).exists()
    assert train(TWO, expressions, tmp_path / "killed") == history
    assert (tmp_path / "killed" / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


def test_sigterm_ends_a_training_after_its_step(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expressions, finished, history = whole
    steps = 0

    def terminated(*arguments: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 4:  # the second of the two steps of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return expression_loss(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Preempted, match="goes on after its last whole epoch"):
        patch.setattr("emd_core.train_fer.expression_loss", terminated)
        train(TWO, expressions, tmp_path / "stopped")
    assert steps == 4
    assert train(TWO, expressions, tmp_path / "stopped") == history
    assert (tmp_path / "stopped" / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


def test_a_phase_can_start_again_after_it_wrote_its_best_model(expressions: Path, tmp_path: Path) -> None:
    """Stopped between writing the best model of a phase's first epoch and the state of that epoch."""
    recipe = ONE_BY_ONE.model_copy(update={"first_epochs": 1, "epochs": 1})
    cfg = TWO.model_copy(update={"recipe": recipe})
    history = train(cfg, expressions, tmp_path / "whole")
    save = Resumable.save

    def save_or_stop(self: Resumable, metrics: dict[str, float]) -> None:
        if metrics["train/branches"] == 2:
            raise KeyboardInterrupt
        save(self, metrics)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Resumable, "save", save_or_stop)
        train(cfg, expressions, tmp_path / "stopped")
    assert train(cfg, expressions, tmp_path / "stopped") == history
    assert (tmp_path / "stopped" / CHECKPOINT).read_bytes() == (tmp_path / "whole" / CHECKPOINT).read_bytes()


def test_joint_training_resumes_exactly(expressions: Path, tmp_path: Path) -> None:
    whole = train(FER, expressions, tmp_path / "whole")
    shorter = FER.model_copy(update={"recipe": JOINT.model_copy(update={"epochs": 1})})
    train(shorter, expressions, tmp_path / "parts")
    assert train(FER, expressions, tmp_path / "parts") == whole
    assert set(whole[0]) == {"train/loss", "train/branches", "val/accuracy", "val/branch_1_accuracy"}


def test_too_few_expressions_are_refused(expressions: Path, tmp_path: Path) -> None:
    cfg = FER.model_copy(update={"batch_size": 33})
    with pytest.raises(UserError, match="has 32 training images; it needs at least one batch"):
        train(cfg, expressions, tmp_path / "run")


@pytest.mark.parametrize("recipe", [{"kind": "jointly"}, {"kind": "joint", "epochs": 1, "lr": 1e-3, "old_lr": 1}])
def test_a_wrong_recipe_is_refused(recipe: dict[str, Any]) -> None:
    wrong = FER.model_dump() | {"recipe": recipe}
    with pytest.raises(UserError, match=r"train_fer\.recipe.*(does not match any of|is not a known key)"):
        section({"train_fer": wrong}, "train_fer", TrainFer, "params.yaml")


def test_the_stage_writes_the_confusions(expressions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow  # not above: the processes that the tests kill import this file, and mlflow takes seconds

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    component.train_fer(TWO, expressions=expressions, fer=tmp_path / "fer")
    names = ["confusion.csv", "confusion.png", "curves.csv", "metrics.json", CHECKPOINT]
    assert sorted(p.name for p in (tmp_path / "fer").iterdir()) == names
    table = pd.read_csv(tmp_path / "fer/confusion.csv")
    assert list(table.columns) == ["actual", "predicted"]
    assert table["actual"].tolist() == list(EXPRESSIONS)
    assert set(table["predicted"]) <= set(EXPRESSIONS)
    metrics = json.loads((tmp_path / "fer/metrics.json").read_text())
    assert metrics["best/val_accuracy"] == float((table["actual"] == table["predicted"]).mean())
    assert "best/val_branch_2_accuracy" in metrics
    curves = pd.read_csv(tmp_path / "fer/curves.csv")
    assert curves["val/accuracy"].isna().tolist() == [True, False, False, True, False]
    assert cv2.imread(str(tmp_path / "fer/confusion.png")).shape[0] > 300
    run = mlflow.search_runs(search_all_experiments=True, filter_string="tags.stage = 'train_fer'").iloc[0]
    assert [a.path for a in mlflow.MlflowClient().list_artifacts(run["run_id"])] == ["confusion.png"]


def test_shares_are_of_the_actual_class() -> None:
    table = pd.DataFrame({"actual": ["sad", "sad", "happy"], "predicted": ["happy", "sad", "sad"]})
    shares = component.shares(table)
    assert list(shares.index) == list(shares.columns) == list(EXPRESSIONS)
    assert (shares.loc["sad", "happy"], shares.loc["sad", "sad"], shares.loc["happy", "sad"]) == (0.5, 0.5, 1.0)
    assert shares.to_numpy().sum() == 2.0


# AffectNet

ROWS = [  # file, x, y, width, height, expression
    ("1/a.png", 10, 30, 40, 20, 3),
    ("2/a.png", -10, 60, 50, 100, 0),
    ("1/b.png", 0, 0, 5, 5, 8),
    ("1/c.png", 0, 0, 5, 5, 9),
    ("1/d.png", "NULL", "NULL", "NULL", "NULL", 10),
]


def write_older(root: Path, rows: list[tuple[Any, ...]] = ROWS, names: tuple[str, ...] = ("training",)) -> Path:
    """Images of 100 columns and 80 rows, red counts columns and green rows."""
    image = np.zeros((80, 100, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(100)[None], np.arange(80)[:, None]
    for file, *_ in rows:
        path = root / IMAGES / file
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    columns = ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression"]
    table = pd.DataFrame(rows, columns=columns).assign(facial_landmarks="1;2", valence=0.1, arousal=-0.1)
    for name in names:
        table.to_csv(root / f"{name}.csv", index=False)
    return root


def test_the_older_layout_is_cut_with_its_boxes(tmp_path: Path) -> None:
    faces = AffectNet(write_older(tmp_path), "train", 54)
    assert faces.labels.tolist() == [3, 0]
    for index, (columns, rows) in enumerate([((10, 49), (30, 49)), ((0, 39), (60, 79))]):
        image, label = faces[index]
        assert image.shape == (3, 54, 54)
        assert label == (3, 0)[index]
        assert (int(image[0].min()), int(image[0].max())) == columns
        assert (int(image[1].min()), int(image[1].max())) == rows


def test_the_newer_layout_leaves_out_what_is_no_expression(expressions: Path) -> None:
    faces = AffectNet(expressions, "train", 54)
    assert faces.labels.tolist() == [k for k in range(8) for _ in range(4)]
    image, label = faces[31]
    assert label == 7
    assert abs(float(image.float().mean()) - 210) < 3


def _drop(root: Path) -> None:
    (root / IMAGES / "2/a.png").unlink()


def _rewrite(change: Any) -> Any:
    def apply(root: Path) -> None:
        change(pd.read_csv(root / "training.csv")).to_csv(root / "training.csv", index=False)

    return apply


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (_drop, r"2/a\.png is annotated but missing \(1 such\)"),
        (_rewrite(lambda t: t.drop(columns="face_y")), r"training\.csv has no column 'face_y'"),
        (_rewrite(lambda t: t.assign(face_width=["x", 5, 5, 5, 5])), r"1/a\.png has no face box \(1 such\)"),
        (_rewrite(lambda t: t.assign(face_x=200)), "the face box .* lies outside the image"),
        (_rewrite(lambda t: t.assign(expression=9)), "not an AffectNet folder with faces in 'train'"),
        (lambda root: (root / IMAGES / "1/a.png").write_text("no"), "is not a readable image"),
    ],
    ids=["image missing", "no column", "no box", "box outside", "no expression", "no image"],
)
def test_faults_of_the_older_layout(tmp_path: Path, fault: Any, sentence: str) -> None:
    fault(write_older(tmp_path))
    with pytest.raises(UserError, match=sentence):
        AffectNet(tmp_path, "train", 54)[0]


def test_a_missing_image_of_the_newer_layout(expressions: Path) -> None:
    (expressions / "val_set/images/30.jpg").unlink()
    with pytest.raises(UserError, match=r"30\.jpg is annotated but missing"):
        AffectNet(expressions, "val", 54)


def test_a_folder_in_neither_layout_is_refused(tmp_path: Path) -> None:
    sentence = r"not an AffectNet folder.*val_set/images/<id>\.jpg.*validation\.csv and Manually_Annotated_Images/"
    with pytest.raises(UserError, match=sentence):
        train(FER, tmp_path, tmp_path)


def test_training_reads_the_older_layout_too(tmp_path: Path) -> None:
    rows = [(f"{k}/{label}.png", 0, 0, 60, 60, label) for k in range(2) for label in range(8)]
    root = write_older(tmp_path / "old", rows, ("training", "validation"))
    assert len(train(FER, root, tmp_path / "run")) == 2


# Published weights


def part_state(convs: list[tuple[int, int, int]], rng: torch.Generator, heads: bool) -> OrderedDict[str, Tensor]:
    """A state dict as the published files hold them: channels in, channels out and kernel side of each convolution."""
    state: OrderedDict[str, Tensor] = OrderedDict()

    def weight(name: str, *shape: int) -> None:
        fan_in = float(np.prod(shape[1:]))
        state[f"{name}.weight"] = torch.randn(shape, generator=rng) / fan_in**0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=rng)

    for i, (before, after, side) in enumerate(convs, start=1):
        weight(f"conv{i}", after, before, side, side)
    for i, (_, after, _) in enumerate(convs, start=1):
        state[f"bn{i}.weight"] = torch.rand(after, generator=rng) + 0.5
        state[f"bn{i}.bias"] = torch.randn(after, generator=rng)
        state[f"bn{i}.running_mean"] = torch.randn(after, generator=rng)
        state[f"bn{i}.running_var"] = torch.rand(after, generator=rng) + 0.5
        state[f"bn{i}.num_batches_tracked"] = torch.tensor(276_570)
    if heads:
        weight("fc", 8, 512)
        weight("fc_dimensional", 2, 8)
    return state


def write_published(folder: Path, branches: int) -> list[OrderedDict[str, Tensor]]:
    """The base's state and those of the branches; torch's old file format, which the published files are in."""
    rng = torch.Generator().manual_seed(0)
    folder.mkdir()
    base = part_state([(3, 64, 5), (64, 128, 3), (128, 128, 3), (128, 128, 3)], rng, heads=False)
    convs = [(128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 512, 3)]
    states = [base, *(part_state(convs, rng, heads=True) for _ in range(branches))]
    names = [BASE, *(BRANCH.format(k) for k in range(1, branches + 1))]
    for name, state in zip(names, states, strict=True):
        torch.save(state, folder / name, _use_new_zipfile_serialization=False)
    return states


def parameters(state: OrderedDict[str, Tensor]) -> int:
    return sum(t.numel() for k, t in state.items() if not k.endswith(("running_mean", "running_var", "tracked")))


def plain_forward(states: list[OrderedDict[str, Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
    """The network as its authors describe it, from the state dicts alone."""

    def block(state: OrderedDict[str, Tensor], i: int, x: Tensor, padding: int = 0) -> Tensor:
        x = F.conv2d(x, state[f"conv{i}.weight"], state[f"conv{i}.bias"], padding=padding)
        norm = [state[f"bn{i}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *norm, training=False))

    base, *branches = states
    shared = F.max_pool2d(block(base, 2, block(base, 1, x)), 2, 2)
    shared = F.max_pool2d(block(base, 4, block(base, 3, shared)), 2, 2)
    features, logits = [], []
    for state in branches:
        x = F.max_pool2d(block(state, 2, block(state, 1, shared)), 2, 2)
        x = block(state, 4, block(state, 3, x), padding=1)
        features.append(x)
        logits.append(F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state["fc.weight"], state["fc.bias"]))
    return torch.stack(features, 1), torch.stack(logits, 1)


def test_published_weights_answer_as_their_authors_network(tmp_path: Path) -> None:
    states = write_published(tmp_path / "esr", 9)
    assert [parameters(s) for s in states] == [374_784] + [2_219_418] * 9
    assert sum(map(parameters, states)) == 20_349_546
    model = load_published_esr(tmp_path / "esr")
    assert model.config == ESRConfig(size=96, branches=9)
    assert not any(module.training for module in model.modules())
    image = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        features, logits = model(image)
        expected_features, expected_logits = plain_forward(states, image)
    assert features.shape == (2, 9, 512, 6, 6)
    torch.testing.assert_close(features, expected_features)
    torch.testing.assert_close(logits, expected_logits)
    assert (logits.amax(dim=1) - logits.amin(dim=1)).max() > 0.1, "the branches must differ for the test to see order"


def _without(name: str, key: str) -> Any:
    return lambda folder: _resave(folder / name, lambda state: state.pop(key))


def _resave(path: Path, change: Any) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda f: (f / BASE).unlink(), r"Net-Base-Shared_Representations\.pt is missing"),
        (lambda f: [(f / BRANCH.format(k)).unlink() for k in (1, 2, 3)], r"Net-Branch_1\.pt is missing"),
        (lambda f: (f / BRANCH.format(2)).unlink(), r"Net-Branch_2\.pt is missing"),
        (lambda f: (f / BASE).write_bytes((f / BASE).read_bytes()[:1000]), "Base-Shared.* cannot be read as weights"),
        (lambda f: torch.save([1, 2], f / BASE), "Base-Shared.* is not a state dict of tensors"),
        (lambda f: torch.save(nn.Linear(1, 1), f / BASE), "Base-Shared.* cannot be read as weights"),
        (_without(BRANCH.format(3), "bn2.running_var"), r"Net-Branch_3\.pt lacks 'bn2\.running_var'"),
        (lambda f: _resave(f / BASE, lambda s: s.update(fc=torch.ones(1))), "holds 'fc', which the network lacks"),
        (
            lambda f: _resave(f / BRANCH.format(1), lambda s: s.update({"fc.bias": torch.ones(7)})),
            r"Net-Branch_1\.pt holds 'fc\.bias' of shape \(7,\) where the network has \(8,\)",
        ),
    ],
    ids=["no base", "no branch", "gap", "cut off", "no dict", "code", "key missing", "key too many", "shape"],
)
def test_wrong_published_weights_are_refused(tmp_path: Path, fault: Any, sentence: str) -> None:
    write_published(tmp_path / "esr", 3)
    fault(tmp_path / "esr")
    with pytest.raises(UserError, match=sentence):
        load_published_esr(tmp_path / "esr")


def test_a_missing_folder_of_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is not a folder; name the one that holds Net-Base"):
        load_published_esr(tmp_path / "none")


def test_a_missing_key_is_named_before_a_surplus_one_and_both_before_a_shape(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    wrong = {"weight": torch.ones(3, 9), "extra": torch.ones(1)}
    for state, sentence in (
        (wrong, "w.pt lacks 'bias'"),
        (wrong | {"bias": torch.ones(3)}, "w.pt holds 'extra', which the network lacks"),
        ({"weight": torch.ones(3, 9), "bias": torch.ones(3)}, "holds 'weight' of shape .3, 9. .* has .3, 2."),
    ):
        with pytest.raises(UserError, match=sentence):
            load_exactly(module, state, "w.pt")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items()), "refused, yet loaded in part"
    with pytest.raises(UserError, match="none is not a file"):
        read_state_dict(tmp_path / "none")
    torch.save({"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, tmp_path / "w.pt")
    load_exactly(module, read_state_dict(tmp_path / "w.pt"), "w.pt")
    assert module.weight.sum() == 6


def test_the_stage_takes_the_published_weights(expressions: Path, tmp_path: Path, monkeypatch: Any) -> None:
    states = write_published(tmp_path / "esr", 2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    recipe = Published(kind="published", folder=str(tmp_path / "esr"))
    cfg = FER.model_copy(update={"recipe": recipe, "network": ESRConfig(size=96, branches=2)})
    component.train_fer(cfg, expressions=expressions, fer=tmp_path / "fer")
    written = load_esr(tmp_path / "fer" / CHECKPOINT)
    assert torch.equal(written.branches[1].fc.weight, states[2]["fc.weight"])
    assert "best/val_branch_2_accuracy" in json.loads((tmp_path / "fer/metrics.json").read_text())
    assert len(pd.read_csv(tmp_path / "fer/confusion.csv")) == 8
    for other in (ESRConfig(size=64, branches=2), ESRConfig(size=96, branches=3)):
        wrong = cfg.model_copy(update={"network": other})
        with pytest.raises(UserError, match=r"holds size 96 with 2; make train_fer\.network agree"):
            train(wrong, expressions, tmp_path / "wrong")
