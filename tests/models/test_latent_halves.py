"""The half of a latent map that is active, and its loss, by hand."""

import pytest
import torch

from emd_core.models.latent_halves import activation_loss, half_activations, keep_half

LATENT = torch.tensor([[0.1, -0.3], [0.0, 0.6], [0.5, 0.5], [-0.8, 0.2]]).view(1, 4, 1, 2)


def test_activations_by_hand() -> None:
    assert half_activations(LATENT).tolist() == [pytest.approx([(0.1 + 0.3 + 0.6) / 4, (0.5 + 0.5 + 0.8 + 0.2) / 4])]


@pytest.mark.parametrize(("half", "loss"), [(0, 0.75 + 0.5), (1, 0.25 + 0.5)])
def test_the_right_half_is_drawn_to_one_and_the_other_to_zero(half: int, loss: float) -> None:
    assert activation_loss(half_activations(LATENT), torch.tensor([half])).item() == pytest.approx(loss)


def test_only_the_chosen_half_is_kept() -> None:
    kept = keep_half(torch.ones(2, 4, 1, 1), torch.tensor([0, 1])).flatten(1)
    assert kept.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
