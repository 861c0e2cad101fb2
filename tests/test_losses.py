"""Eq. 1, 6, 7 and 8 against values computed by hand."""

import math

import pytest
import torch

from emd_core.losses import classification_loss, expression_loss, manipulation_loss, segmentation_loss


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


def test_segmentation_loss() -> None:
    logits_B1HW = torch.tensor([[[[logit(0.9), logit(0.2)]]]])
    expected = -(math.log(0.9) + math.log(1 - 0.2)) / 2
    mask = torch.tensor([[[[1.0, 0.0]]]])
    assert segmentation_loss(logits_B1HW, mask).item() == pytest.approx(expected, rel=1e-6)


def test_manipulation_loss_is_their_sum() -> None:
    logits, label = torch.randn(3, 2), torch.tensor([0, 1, 1])
    mask_logits, mask = torch.randn(3, 1, 4, 4), torch.randint(0, 2, (3, 1, 4, 4)).float()
    total = classification_loss(logits, label) + segmentation_loss(mask_logits, mask)
    assert torch.equal(manipulation_loss(logits, mask_logits, label, mask), total)
