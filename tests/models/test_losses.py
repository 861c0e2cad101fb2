"""Eq. 1, 6, 7 and 8 against values computed by hand."""

import math

import pytest
import torch

from emd_core.models.parts.losses import (
    PixelReduction,
    classification_loss,
    expression_loss,
    manipulation_loss,
    segmentation_loss,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_expression_loss_sums_branches_and_averages_images() -> None:
    # log-probabilities of the true class: branch 0: log .5 and log .8, branch 1: log .9 and log .25
    logits_BKN = torch.tensor([[[0.5, 0.5], [0.1, 0.9]], [[0.8, 0.2], [0.25, 0.75]]]).log()
    label_B = torch.tensor([1, 0])
    expected = -(math.log(0.5) + math.log(0.9) + math.log(0.8) + math.log(0.25)) / 2
    assert expression_loss(logits_BKN, label_B).item() == pytest.approx(expected, rel=1e-6)


def test_classification_loss() -> None:
    logits_B2 = torch.tensor([[0.3, 0.7], [0.4, 0.6]]).log()  # a = 0.7 and 0.6
    expected = -(math.log(0.7) + math.log(1 - 0.6)) / 2
    assert classification_loss(logits_B2, torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-6)


MASK_LOGITS = torch.tensor([[[[logit(0.9), logit(0.2)]]], [[[logit(0.5), logit(0.6)]]]])
MASK = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 0.0]]]])
ENTROPY = [-(math.log(0.9) + math.log(1 - 0.2)), -(math.log(1 - 0.5) + math.log(1 - 0.6))]  # sum over 2 pixels


@pytest.mark.parametrize(
    ("known", "pixels", "expected"),
    [
        ([True, True], "mean", sum(ENTROPY) / 4),
        ([True, True], "sum", sum(ENTROPY) / 2),
        ([True, False], "mean", ENTROPY[0] / 2),
        ([False, True], "sum", ENTROPY[1]),
        ([False, False], "mean", 0.0),
    ],
)
def test_segmentation_loss(known: list[bool], pixels: PixelReduction, expected: float) -> None:
    loss = segmentation_loss(MASK_LOGITS, MASK, torch.tensor(known), pixels)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_without_any_mask_the_gradient_is_zero_and_not_nan() -> None:
    logits = MASK_LOGITS.clone().requires_grad_()
    segmentation_loss(logits, MASK, torch.tensor([False, False])).backward()
    assert logits.grad is not None and not logits.grad.any()


def test_manipulation_loss_is_their_sum() -> None:
    logits_B2, label_B, known_B = torch.tensor([[0.3, 0.7], [0.4, 0.6]]).log(), torch.tensor([1, 0]), torch.ones(2) > 0
    expected = -(math.log(0.7) + math.log(1 - 0.6)) / 2 + sum(ENTROPY) / 4
    assert manipulation_loss(logits_B2, MASK_LOGITS, label_B, MASK, known_B).item() == pytest.approx(expected, rel=1e-6)
