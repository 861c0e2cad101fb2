"""The published weights of the expression network, and files that are not such."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components import train_fer as component
from emd_core.errors import UserError
from emd_core.expressions.training import Published
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr
from emd_core.models.parts.esr import ESRConfig
from emd_core.models.parts.published_esr import BASE, BRANCH, load_published_esr
from emd_core.storage.weights import load_exactly, read_state_dict
from tests.fakes.fer_data import FER, train, write_newer


@pytest.fixture
def expressions(tmp_path: Path) -> Path:
    return write_newer(tmp_path / "affectnet")


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
        (
            lambda f: (f / BASE).write_bytes((f / BASE).read_bytes()[:1000]),
            "Base-Shared.* .it is cut off.; name",
        ),
        (lambda f: torch.save([1, 2], f / BASE), "Base-Shared.* is not a state dict of tensors"),
        (
            lambda f: torch.save(nn.Linear(1, 1), f / BASE),
            "Base-Shared.* holds a pickled torch.* save the weights alone",
        ),
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
