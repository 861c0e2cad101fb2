"""Capsule-Forensics computes what the published network computes, from files of the published names."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emd_core.errors import UserError
from emd_core.models.baselines import imagenet
from emd_core.models.baselines.capsule import CapsuleConfig, CapsuleForensics, route, squash

SMALL = CapsuleConfig(kind="capsule", size=32, width=4)
PUBLISHED = CapsuleConfig(kind="capsule", size=32, width=64)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The capsules' weights by their published names, of the published shapes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    state = {"routing_stats.route_weights": draw(2, 3, 4, 8)}
    for n in (1, 2, 3):
        for layer, shape in {0: (64, 256, 3, 3), 3: (16, 64, 3, 3), 7: (8, 2, 5), 9: (1, 8, 3)}.items():
            name, channels = f"fea_ext.ext_{n}", shape[0]
            state[f"{name}.{layer}.weight"] = draw(*shape, scale=torch.Size(shape[1:]).numel() ** -0.5)
            state[f"{name}.{layer}.bias"] = draw(channels)
            state |= {f"{name}.{layer + 1}.{key}": draw(channels) for key in ("weight", "bias", "running_mean")}
            state[f"{name}.{layer + 1}.running_var"] = draw(channels).abs() + 0.5
    return state


@pytest.fixture
def vgg19(monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The front of torchvision's VGG-19, in place of its download."""
    torch.manual_seed(1)
    features = imagenet.features_of("vgg19", 64, 19)
    monkeypatch.setattr(imagenet, "get_model", lambda name, weights=None: SimpleNamespace(features=features))
    return features


def published(state: State, map_BChw: Tensor) -> Tensor:
    """The probabilities of fake and real, B2, written out from the publication."""

    def norm(x: Tensor, name: str) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        mean, var, gain, shift = (state[f"{name}.{key}"].reshape(-1, *[1] * (x.ndim - 2)) for key in keys)
        return (x - mean) / (var + 1e-5).sqrt() * gain + shift

    def squashed(x: Tensor, dim: int) -> Tensor:
        squares = (x**2).sum(dim, keepdim=True)
        return squares / (1 + squares) * x / squares.sqrt()

    capsules = []
    for n in (1, 2, 3):
        name = f"fea_ext.ext_{n}"
        x = map_BChw
        for layer in (0, 3):
            x = F.conv2d(x, state[f"{name}.{layer}.weight"], state[f"{name}.{layer}.bias"], padding=1)
            x = norm(x, f"{name}.{layer + 1}").clamp(min=0)
        x = torch.stack([x.mean(dim=(2, 3)), x.var(dim=(2, 3), unbiased=True).sqrt()], dim=1)
        x = norm(F.conv1d(x, state[f"{name}.7.weight"], state[f"{name}.7.bias"], 2, 2), f"{name}.8")
        x = norm(F.conv1d(x, state[f"{name}.9.weight"], state[f"{name}.9.bias"], 1, 1), f"{name}.10")
        capsules.append(x[:, 0])
    u_Bi8 = squashed(torch.stack(capsules, dim=1), 1)
    votes = torch.einsum("oidk,bik->boid", state["routing_stats.route_weights"], u_Bi8)
    first = squashed(votes.mean(dim=2), 2)
    share = (votes * first[:, :, None]).softmax(dim=2)
    second_Bod = squashed((share * votes).sum(dim=2), 2)
    return second_Bod.softmax(dim=1).mean(dim=2)


def test_the_capsules_have_the_published_size() -> None:
    model = CapsuleForensics(PUBLISHED)
    assert sum(p.numel() for p in model.capsules.parameters()) == 471_321


def test_published_weights_give_the_published_answers(state: State, vgg19: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "capsule_35.pt")
    model = CapsuleForensics(PUBLISHED).eval()
    model.load_published(str(tmp_path / "capsule_35.pt"))
    image = torch.rand(3, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        fake, _ = published(state, vgg19((image - mean[:, None, None]) / std[:, None, None])).unbind(1)
        score = model(image)[0].softmax(1)[:, 1]
    torch.testing.assert_close(score, fake)


def test_two_rounds_of_routing_by_hand() -> None:
    """Votes (1, 3) and (3, 1): their mean (2, 2), of length n = sqrt(8), is squashed to 2 n / 9 = 0.62854.

    In each dimension the vote of 3 then agrees by 1.88562 and that of 1 by 0.62854, so it weighs 0.77852 and the mean
    is 2.55705 in both; of length 3.61621 it is squashed to 0.65688.
    """
    votes_BOI4 = torch.tensor([[1.0, 3.0], [3.0, 1.0]])[None, None]
    torch.testing.assert_close(route(votes_BOI4), torch.tensor([[[0.65688, 0.65688]]]), atol=1e-5, rtol=0)


def test_squashing_keeps_the_direction_and_takes_nothing() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    y = squash(x, dim=1)
    torch.testing.assert_close(y, torch.tensor([[0.6, 0.8], [0.0, 0.0]]) * 25 / 26)
    y.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_the_loss_by_hand(state: State) -> None:
    """The softmax is taken twice, as published, and the four dimensions add up."""
    model = CapsuleForensics(PUBLISHED).eval()
    model.capsules.load_state_dict(state, strict=False)  # the start answers 1/2 everywhere
    image, label = torch.rand(2, 3, 32, 32), torch.tensor([1, 0])
    with torch.inference_mode():
        fake_B4, real_B4 = model.classes(image).unbind(2)
        loss = model.loss(image, label, torch.zeros(2, 1, 32, 32), torch.ones(2, dtype=torch.bool))
    right, wrong = torch.stack([fake_B4[0], real_B4[1]]), torch.stack([real_B4[0], fake_B4[1]])
    torch.testing.assert_close(loss, -(right.exp() / (right.exp() + wrong.exp())).log().sum() / 2)


def test_routing_is_noisy_in_training_alone() -> None:
    routing = CapsuleForensics(SMALL).capsules["routing_stats"]
    capsules_BI8 = torch.rand(2, 3, 8)
    assert not torch.equal(routing(capsules_BI8), routing(capsules_BI8))
    routing.eval()
    assert torch.equal(routing(capsules_BI8), routing(capsules_BI8))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("fea_ext.ext_2.7.bias"), r"lacks 'fea_ext\.ext_2\.7\.bias'"),
        (lambda s: s.update({"fea_ext.ext_4.0.bias": torch.zeros(64)}), r"holds 'fea_ext\.ext_4\.0\.bias'"),
        (lambda s: s.update({"routing_stats.route_weights": torch.zeros(2, 10, 4, 8)}), r"shape \(2, 10, 4, 8\)"),
    ],
    ids=["missing", "surplus", "misshaped"],
)
def test_wrong_files_are_refused(
    change: Callable[[Any], object], sentence: str, state: State, vgg19: torch.nn.Module, tmp_path: Path
) -> None:
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "capsule_35.pt")
    with pytest.raises(UserError, match=r"capsule_35\.pt .*" + sentence):
        CapsuleForensics(PUBLISHED).load_published(str(tmp_path / "capsule_35.pt"))


def test_a_folder_must_hold_both_files(state: State, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 0 files capsule_\*\.pt"):
        CapsuleForensics(PUBLISHED).load_published(str(tmp_path))
    torch.save(state, tmp_path / "capsule_35.pt")
    with pytest.raises(UserError, match=r"holds 0 files vgg19-\*\.pth"):
        CapsuleForensics(PUBLISHED).load_published(str(tmp_path))


def test_a_narrow_front_takes_no_weights() -> None:
    with pytest.raises(UserError, match=r"train_emd\.network\.width 64, but it is 4; set it"):
        CapsuleForensics(SMALL).load_published("imagenet")


def test_a_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, weights: str) -> None:
        raise OSError("no network")

    model = CapsuleForensics(PUBLISHED)
    monkeypatch.setattr(imagenet, "get_model", refuse)
    with pytest.raises(UserError, match=r"of vgg19 could not be downloaded \(OSError\); set train_emd\.weights"):
        model.load_published("imagenet")
