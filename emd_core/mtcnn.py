"""MTCNN [Zhang et al., 2016] for batches of frames, with the networks and weights of facenet-pytorch.

That package's own cascade cuts and resizes every candidate in a Python loop, which takes most of its time; here the
candidates of a batch are cut at once.

B frames, N candidates, HW pixels; boxes are corners x1, y1, x2, y2 in pixels of the frame.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms, roi_align

from emd_core.boxes import Detection, detections

WINDOW = 12  # px that the first network sees at once: the smallest face it can find
STRIDE = 2  # px between its windows
SHRINK = 0.709  # from one level of the image pyramid to the next
ON_SCALE = 20  # px: a face of this size fills the window exactly at one level
PROPOSED, REFINED = 0.6, 0.7  # probabilities above which the first two networks let a candidate pass


class MtcnnDetector:
    def __init__(self, threshold: float, device: str) -> None:
        self.threshold = threshold
        self.device = torch.device(device)
        # channels_last: several times faster pooling on a CPU.
        nets = [net().eval().to(self.device, memory_format=torch.channels_last) for net in (PNet, RNet, ONet)]
        self.pnet, self.rnet, self.onet = nets

    @torch.inference_mode()
    def detect(self, frames: Sequence[NDArray[np.uint8]], min_face: float) -> list[list[Detection]]:
        """All faces whose shorter side is at least `min_face` px; frames are HWC uint8 RGB, [0, 255], of one size."""
        if not frames:
            return []
        frames_B3HW = self._to_input(frames)
        box_N4, score_N, frame_N = self._propose(frames, min_face)
        # Input size, least probability, and overlap above which the less sure of two boxes is dropped: the last network
        # is to choose among several candidates of one face.
        stages: list[tuple[Callable[[Tensor], tuple[Tensor, ...]], int, float, float]] = [
            (self.rnet, 24, REFINED, 0.7),
            (self.onet, 48, self.threshold, 0.4),
        ]
        for network, size, threshold, overlap in stages:
            box_N4 = squares(box_N4)
            if not len(box_N4):
                break
            where_N5 = torch.cat([frame_N[:, None], box_N4], dim=1)
            seen = roi_align(frames_B3HW, where_N5, size, aligned=True)
            shift_N4, *_, probability_N2 = network(seen)
            box_N4, score_N = moved(box_N4, shift_N4), probability_N2[:, 1]
            keep = best(box_N4, score_N, frame_N, threshold, overlap)
            box_N4, score_N, frame_N = box_N4[keep], score_N[keep], frame_N[keep]
        found = torch.cat([box_N4, score_N[:, None]], dim=1).cpu().numpy()
        return [detections(found[(frame_N == i).cpu().numpy()], frame, min_face) for i, frame in enumerate(frames)]

    def _to_input(self, frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        pixels = torch.from_numpy(np.stack(frames)).to(self.device)
        return pixels.permute(0, 3, 1, 2).float().sub(127.5).div(128)

    def _propose(self, frames: Sequence[NDArray[np.uint8]], min_face: float) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates by the first network, on every level of an image pyramid: boxes, scores, frame numbers."""
        height, width = frames[0].shape[:2]
        parts = []
        for scale in pyramid(height, width, min_face):
            size = (int(width * scale + 1), int(height * scale + 1))
            parts.append(self._propose_at([_shrink(frame, size) for frame in frames], scale))
        if not parts:
            nothing = torch.zeros(0, device=self.device)
            return nothing.reshape(0, 4), nothing, nothing
        box_N4, score_N, frame_N = (torch.cat(column) for column in zip(*parts, strict=True))
        keep = best(box_N4, score_N, frame_N, PROPOSED, overlap=0.7)
        return box_N4[keep], score_N[keep], frame_N[keep]

    def _propose_at(self, level: Sequence[NDArray[np.uint8]], scale: float) -> tuple[Tensor, Tensor, Tensor]:
        shift_B4hw, probability_B2hw = self.pnet(self._to_input(level))
        frame_N, y_N, x_N = torch.nonzero(probability_B2hw[:, 1] > PROPOSED, as_tuple=True)
        score_N = probability_B2hw[frame_N, 1, y_N, x_N]
        corner_N2 = torch.stack([x_N, y_N], dim=1) * STRIDE
        window_N4 = torch.cat([corner_N2, corner_N2 + WINDOW], dim=1) / scale
        keep = best(window_N4, score_N, frame_N, PROPOSED, overlap=0.5)
        box_N4 = moved(window_N4[keep], shift_B4hw[frame_N, :, y_N, x_N][keep])
        return box_N4, score_N[keep], frame_N[keep].to(box_N4)


def _shrink(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def pyramid(height: int, width: int, min_face: float) -> Iterator[float]:
    """Scales at which a face of `min_face` px and each larger one fill the first network's window.

    All are levels of one scale, whatever `min_face` is: a face then gives nearly the same box in a part of a frame as
    in the whole.
    """
    level = math.floor(math.log(ON_SCALE / max(min_face, WINDOW)) / math.log(SHRINK))
    while min(height, width) * (scale := WINDOW / ON_SCALE * SHRINK**level) >= WINDOW:
        yield scale
        level += 1


def best(box_N4: Tensor, score_N: Tensor, frame_N: Tensor, threshold: float, overlap: float) -> Tensor:
    """Which of the boxes are sure enough and overlap no surer one of the same frame."""
    sure = torch.nonzero(score_N >= threshold)[:, 0]
    return sure[batched_nms(box_N4[sure], score_N[sure], frame_N[sure], overlap)]


def moved(box_N4: Tensor, shift_N4: Tensor) -> Tensor:
    """Boxes whose corners are shifted by shares of their width and height."""
    side_N2 = box_N4[:, 2:] - box_N4[:, :2]
    return box_N4 + shift_N4 * side_N2.repeat(1, 2)


def squares(box_N4: Tensor) -> Tensor:
    """Squares of the longer side around the boxes' centres."""
    half_N1 = (box_N4[:, 2:] - box_N4[:, :2]).amax(dim=1, keepdim=True) / 2
    centre_N2 = (box_N4[:, :2] + box_N4[:, 2:]) / 2
    return torch.cat([centre_N2 - half_N1, centre_N2 + half_N1], dim=1)
