"""RetinaFace [Deng et al., 2020] with ResNet-50 for batches of frames, with the network of retinaface-pytorch.

That package's own `Model` takes one frame at a time, makes its anchors anew for each in Python loops, and enlarges
small frames.

B frames, P anchors ("priors"), HW pixels.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from retinaface.box_utils import decode
from retinaface.network import RetinaFace
from retinaface.prior_box import priorbox
from torch import Tensor
from torchvision.ops import nms

from emd_core.errors import UserError
from emd_core.faces.boxes import Detection, detections

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]
VARIANCES = (0.1, 0.2)  # of box centres and of sizes, as the network was trained
OVERLAP = 0.4  # of two boxes, above which the less sure one is dropped


class RetinaFaceDetector:
    def __init__(self, state: dict[str, Tensor], threshold: float, device: str) -> None:
        self.threshold = threshold
        self.device = torch.device(device)
        self.network = RetinaFace(
            name="Resnet50",
            pretrained=False,
            return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
            in_channels=256,
            out_channels=256,
        )
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"crop_faces.weights do not fit RetinaFace-ResNet50 ({reason}…).") from None
        self.network.eval().to(self.device, memory_format=torch.channels_last)
        self.mean_311, self.std_311 = (255 * torch.tensor(v, device=self.device)[:, None, None] for v in (MEAN, STD))

    @torch.inference_mode()
    def detect(self, frames: Sequence[NDArray[np.uint8]], min_face: float) -> list[list[Detection]]:
        """All faces whose shorter side is at least `min_face` px; frames are HWC uint8 RGB, [0, 255], of one size."""
        if not frames:
            return []
        height, width = frames[0].shape[:2]
        pixels_B3HW = torch.from_numpy(np.stack(frames)).to(self.device).permute(0, 3, 1, 2).float()
        offset_BP4, logit_BP2, _ = self.network((pixels_B3HW - self.mean_311) / self.std_311)
        score_BP = logit_BP2.softmax(dim=2)[..., 1]
        priors_P4 = anchors(height, width).to(self.device)
        found = []
        for frame, offset_P4, score_P in zip(frames, offset_BP4, score_BP, strict=True):
            sure = score_P >= self.threshold
            box_N4 = decode(offset_P4[sure], priors_P4[sure], VARIANCES)
            box_N4 *= box_N4.new_tensor([width, height, width, height])
            row_N5 = torch.cat([box_N4, score_P[sure][:, None]], dim=1)[nms(box_N4, score_P[sure], OVERLAP)]
            found.append(detections(row_N5.cpu().numpy(), frame, min_face))
        return found

    def confirm(self, frames: Sequence[NDArray[np.uint8]], boxes: Sequence[Detection]) -> list[Detection | None]:
        """Nothing is sure: its anchors need to see around a face."""
        return [None] * len(boxes)


@lru_cache(maxsize=16)
def anchors(height: int, width: int) -> Tensor:
    """Centres and sizes of all anchors as shares of the frame, P4."""
    sizes = [[16, 32], [64, 128], [256, 512]]
    return priorbox(min_sizes=sizes, steps=[8, 16, 32], clip=False, image_size=(height, width))
