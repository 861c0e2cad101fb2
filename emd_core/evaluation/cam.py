"""Class activation maps of the expression network: where in a face it saw the expression (Zhou et al., CVPR 2016)."""

import torch
from torch import Tensor

from emd_core.models.detector import resize
from emd_core.models.parts.esr import ESR, surest_branch, vote


@torch.inference_mode()
def class_activation_map(fer: ESR, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """RGB in [0, 1] of any size -> the voted class's map, B h w in [0, 1], and that class, B (Eq. 4).

    The map is the class's weights times the feature map of the branch that Eq. 5 picks, without what speaks against
    the class, divided by its maximum; all zeros where nothing speaks for it.
    """
    features_BKChw, logits_BKN = fer(resize(image_B3HW, fer.config.size))
    voted_B = vote(logits_BKN)
    branch_B = surest_branch(logits_BKN, voted_B)
    sample = torch.arange(len(voted_B), device=voted_B.device)
    weights_KNC = torch.stack([branch.get_submodule("fc").get_parameter("weight") for branch in fer.branches])
    cam_Bhw = torch.einsum("bc,bchw->bhw", weights_KNC[branch_B, voted_B], features_BKChw[sample, branch_B]).relu()
    largest_B11 = cam_Bhw.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest_B11 > 0, cam_Bhw / largest_B11, 0.0), voted_B
