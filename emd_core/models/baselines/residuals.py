"""Noise residuals and their co-occurrences: the 162 numbers of FaceForensics++'s steganalysis features.

Rich models (Fridrich and Kodovsky, TIFS 2012) of one filter, as Cozzolino, Poggi and Verdoliva use them for forgeries:
a residual of third order, quantised with step 2 and truncated to three levels ("Splicebuster", WIFS 2015), and how
often each of the 3^4 = 81 patterns of four neighbours occurs along the filter and across it.
"""

import torch
from torch import Tensor

FILTER = (1.0, -3.0, 3.0, -1.0)
STEP = 2  # of the quantisation, grey levels
LEVELS = 3  # -1, 0, 1 steps and beyond
NEIGHBOURS = 4
PATTERNS = LEVELS**NEIGHBOURS
FEATURES = 2 * PATTERNS
LUMA = (0.299, 0.587, 0.114)  # BT.601, as an image's conversion to grey


def grey(image_B3HW: Tensor) -> Tensor:
    """RGB in [0, 1] -> whole grey levels from 0 to 255, B1HW, in float32 whatever autocast says.

    Whole levels give whole residuals, so that no rounding of floats decides to which level one belongs.
    """
    with torch.autocast(image_B3HW.device.type, enabled=False):
        weight_311 = torch.tensor(LUMA, device=image_B3HW.device).view(3, 1, 1)
        return (255 * image_B3HW.float() * weight_311).sum(1, keepdim=True).round()


def residual_levels(grey_B1HW: Tensor) -> Tensor:
    """The horizontal residual as level 0 (-2 and below), 1 (-1 to 1) or 2 (2 and above), int64 B1H(W-3)."""
    filter_4 = torch.tensor(FILTER, device=grey_B1HW.device)
    residual = (grey_B1HW.unfold(3, len(FILTER), 1) * filter_4).sum(-1)
    return (residual / STEP).round().clamp(-1, 1).long() + 1  # round() takes halves to the even: 1 / 2 -> 0


def co_occurrences(level_B1HW: Tensor, dim: int) -> Tensor:
    """The share of each pattern of four neighbours along `dim`, B 81; pattern abcd has the number 27a + 9b + 3c + d."""
    place_4 = LEVELS ** torch.arange(NEIGHBOURS - 1, -1, -1, device=level_B1HW.device)
    number_BP = (level_B1HW.unfold(dim, NEIGHBOURS, 1) * place_4).sum(-1).flatten(1)
    first_B1 = PATTERNS * torch.arange(len(number_BP), device=level_B1HW.device)[:, None]
    count = torch.bincount((first_B1 + number_BP).flatten(), minlength=PATTERNS * len(number_BP))
    return count.view(-1, PATTERNS) / number_BP.shape[1]


def residual_features(image_B3SS: Tensor) -> Tensor:
    """The shares of the patterns along the filter, then across it, float32 B 162; S is 7 or more.

    Both are means over the horizontal and the vertical residual, which is that of the transposed picture (SRM's "hv").
    """
    picture = grey(image_B3SS)
    levels = [residual_levels(x) for x in (picture, picture.mT)]
    shares = [torch.cat([co_occurrences(x, dim) for dim in (3, 2)], dim=1) for x in levels]
    return torch.stack(shares).mean(0)
