"""The losses, Eq. 1, 6, 7 and 8. All take logits; label 1 = manipulated."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

PixelReduction = Literal["mean", "sum"]


def expression_loss(logits_BKN: Tensor, label_B: Tensor) -> Tensor:
    """Cross-entropy summed over the branches, averaged over the batch (Eq. 1)."""
    branches = logits_BKN.shape[1]
    return F.cross_entropy(logits_BKN.flatten(0, 1), label_B.repeat_interleave(branches)) * branches


def classification_loss(logits_B2: Tensor, label_B: Tensor) -> Tensor:
    """Cross-entropy of the two-way head, averaged over the batch (Eq. 6, with the minus sign it lacks in print)."""
    return F.cross_entropy(logits_B2, label_B)


def segmentation_loss(
    logits_B1HW: Tensor, mask_B1HW: Tensor, known_B: Tensor, pixels: PixelReduction = "mean"
) -> Tensor:
    """Binary cross-entropy (Eq. 7), averaged over the images whose mask is known; 0 where none is.

    Within an image the pixels are averaged ("mean") or summed ("sum", Eq. 7 to the letter: at 299 pixels the mask
    then weighs about 90,000 times as much as the class).
    """
    entropy_BP = F.binary_cross_entropy_with_logits(logits_B1HW, mask_B1HW, reduction="none").flatten(1)
    return mean_of_known(entropy_BP.mean(1) if pixels == "mean" else entropy_BP.sum(1), known_B)


def mean_of_known(loss_B: Tensor, known_B: Tensor) -> Tensor:
    """The mean over the samples that count; 0 (with a gradient of 0) where none does."""
    return (loss_B * known_B).sum() / known_B.sum().clamp(min=1)


def manipulation_loss(
    logits_B2: Tensor,
    logits_B1HW: Tensor,
    label_B: Tensor,
    mask_B1HW: Tensor,
    known_B: Tensor,
    pixels: PixelReduction = "mean",
) -> Tensor:
    """L_MANI = L_cls + L_seg (Eq. 8); `known_B` says whose mask is known (data sets such as DFDC have none)."""
    return classification_loss(logits_B2, label_B) + segmentation_loss(logits_B1HW, mask_B1HW, known_B, pixels)
