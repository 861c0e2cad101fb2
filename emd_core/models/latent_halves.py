"""A latent map of two halves, one for each class; the half that is active says which. ForensicTransfer's invention.

Shapes: a latent map B C h w of an even number of channels, its activations B2, and the half meant for each image, B.
"""

import torch.nn.functional as F
from torch import Tensor


def half_activations(latent: Tensor) -> Tensor:
    """The mean absolute value of each half, B2."""
    return latent.unflatten(1, (2, -1)).abs().mean(dim=(2, 3, 4))


def activation_loss(activation_B2: Tensor, half_B: Tensor) -> Tensor:
    """How far the right half is from 1 and the other from 0, averaged over the batch."""
    return (activation_B2.float() - F.one_hot(half_B, 2)).abs().sum(1).mean()


def keep_half(latent: Tensor, half_B: Tensor) -> Tensor:
    """The latent map with its other half set to zero."""
    halves = latent.unflatten(1, (2, -1)) * F.one_hot(half_B, 2).to(latent.dtype)[:, :, None, None, None]
    return halves.flatten(1, 2)
