"""The losses, Eq. 1, 6, 7 and 8. All take logits; label 1 = manipulated."""

import torch.nn.functional as F
from torch import Tensor


def expression_loss(logits_BKN: Tensor, label_B: Tensor) -> Tensor:
    """Cross-entropy summed over the branches, averaged over the batch (Eq. 1)."""
    branches = logits_BKN.shape[1]
    return F.cross_entropy(logits_BKN.flatten(0, 1), label_B.repeat_interleave(branches)) * branches


def classification_loss(logits_B2: Tensor, label_B: Tensor) -> Tensor:
    """Cross-entropy of the two-way head, averaged over the batch (Eq. 6, with the minus sign it lacks in print)."""
    return F.cross_entropy(logits_B2, label_B)


def segmentation_loss(logits_B1HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Binary cross-entropy averaged over batch and pixels (Eq. 7; printed as a sum over pixels)."""
    return F.binary_cross_entropy_with_logits(logits_B1HW, mask_B1HW)


def manipulation_loss(logits_B2: Tensor, logits_B1HW: Tensor, label_B: Tensor, mask_B1HW: Tensor) -> Tensor:
    """L_MANI = L_cls + L_seg (Eq. 8)."""
    return classification_loss(logits_B2, label_B) + segmentation_loss(logits_B1HW, mask_B1HW)
