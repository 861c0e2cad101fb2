"""The expression network's training: recipes, phases, and what a killed one leaves."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from components import train_fer as component
from emd_core.config import read_params, section
from emd_core.errors import Preempted, UserError
from emd_core.expressions.faces import ExpressionFaces
from emd_core.expressions.training import BranchByBranch, TrainFer, draw, make_optimizer, phases
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr
from emd_core.models.parts.esr import ESR, EXPRESSIONS, ESRConfig
from emd_core.models.parts.losses import expression_loss
from emd_core.training.output import best_metrics
from emd_core.training.resuming import Resumable
from tests.fakes.fer_data import FER, JOINT, ONE_BY_ONE, TWO, train, write_newer
from tests.fakes.processes import exit_code
from tests.house.contract import ROOT


@pytest.fixture
def expressions(tmp_path: Path) -> Path:
    return write_newer(tmp_path / "affectnet")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Data, the folder of a training that was not killed, and its metrics."""
    root = tmp_path_factory.mktemp("whole")
    return write_newer(root / "affectnet"), root / "run", train(TWO, root / "affectnet", root / "run")


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
    train = ExpressionFaces(expressions, "train", 54)
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

    monkeypatch.setattr("emd_core.expressions.training.validate", score)
    monkeypatch.setattr("emd_core.expressions.training.draw", spy_draw)
    monkeypatch.setattr("emd_core.expressions.training.make_optimizer", spy)
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
    assert exit_code(train, *arguments) == -signal.SIGKILL
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
        patch.setattr("emd_core.expressions.training.expression_loss", terminated)
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


@pytest.mark.parametrize("cfg", [FER, TWO], ids=["joint", "branch by branch"])
def test_a_training_that_diverges_is_stopped(cfg: TrainFer, expressions: Path, tmp_path: Path) -> None:
    wild = cfg.model_copy(update={"recipe": cfg.recipe.model_copy(update={"lr": 1e30})})
    with pytest.raises(UserError, match=r"the loss is nan in step \d of epoch 1, at a learning rate of 1e\+30"):
        train(wild, expressions, tmp_path / "run")
    assert not list(tmp_path.rglob(CHECKPOINT))


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
    assert [a.path for a in mlflow.MlflowClient().list_artifacts(run["run_id"])] == ["confusion.png", "provenance"]


def test_shares_are_of_the_actual_class() -> None:
    table = pd.DataFrame({"actual": ["sad", "sad", "happy"], "predicted": ["happy", "sad", "sad"]})
    shares = component.shares(table)
    assert list(shares.index) == list(shares.columns) == list(EXPRESSIONS)
    assert (shares.loc["sad", "happy"], shares.loc["sad", "sad"], shares.loc["happy", "sad"]) == (0.5, 0.5, 1.0)
    assert shares.to_numpy().sum() == 2.0
