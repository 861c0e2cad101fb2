"""Bayar and Stamm's constraint by hand, and that it holds; the size of their network."""

import torch

from emd_core.models.baselines.bayar import Bayar, BayarConfig, project
from emd_core.models.baselines.residuals import grey

TINY = BayarConfig(kind="bayar", crop=48, size=32, hidden=8)


def test_a_projected_filter_by_hand() -> None:
    """The sum around the centre is 16, so that what was 2 becomes 2 / 16."""
    weight = torch.tensor([[1.0, 2, 1], [2, 5, 2], [1, 2, 5]]).view(1, 1, 3, 3)
    project(weight)
    assert (16 * weight).tolist() == [[[[1, 2, 1], [2, -16, 2], [1, 2, 5]]]]


def holds(model: Bayar) -> bool:
    weight = model.constrained.weight.detach()
    around = weight.sum(dim=(1, 2, 3)) + 1
    return bool((weight[:, 0, 2, 2] == -1).all()) and torch.allclose(around, torch.ones(12), atol=1e-5)


def test_the_constraint_holds_at_the_start_and_after_each_step() -> None:
    torch.manual_seed(0)
    model = Bayar(TINY)
    assert holds(model)
    before = model.constrained.weight.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    image, label = torch.rand(4, 3, 48, 48), torch.tensor([0, 1, 0, 1])
    unused = torch.zeros(0)
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(image, label, unused, unused).backward()
        optimizer.step()
        assert not holds(model)
        model.after_step()
        assert holds(model)
    assert not torch.equal(model.constrained.weight, before)


def test_a_flat_picture_has_no_prediction_error() -> None:
    error = Bayar(TINY).constrained(grey(torch.full((1, 3, 32, 32), 0.5)))
    assert error.shape == (1, 12, 28, 28)
    torch.testing.assert_close(error, torch.zeros_like(error), atol=1e-3, rtol=0)


def test_the_published_network_has_its_size() -> None:
    """Of 128 pixels 124 are left after the first layer, then 62 and 31, then 16."""
    model = Bayar(BayarConfig(kind="bayar", crop=299, size=128, hidden=4096))
    convolutions = 12 * 25 + 64 * (12 * 49 + 1) + 48 * (64 * 25 + 1)
    connected = 4096 * (48 * 16 * 16 + 1) + 4096 * 4097 + 2 * 4097
    assert sum(p.numel() for p in model.parameters()) == convolutions + connected == 67_240_094


def test_it_computes_in_bf16() -> None:
    model = Bayar(TINY).eval()
    image = torch.rand(2, 3, 48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        within, mask = model(image)
    assert mask is None and within.dtype == torch.bfloat16
    torch.testing.assert_close(within.float(), model(image)[0], atol=0.05, rtol=0.05)
