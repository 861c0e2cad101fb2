"""MTCNN [Zhang et al., 2016] for batches of frames: the candidates of a batch are cut and resized at once.

B frames, N candidates, HW pixels; boxes are corners x1, y1, x2, y2 in pixels of the frame.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, roi_align

from emd_core.faces.boxes import Detection, detections
from emd_core.faces.mtcnn_networks import load_mtcnn

WINDOW = 12  # px that the first network sees at once: the smallest face it can find
STRIDE = 2  # px between its windows
SHRINK = 0.709  # from one level of the image pyramid to the next
ON_SCALE = 20  # px: a face of this size fills the window exactly at one level
LAST = 48  # px that the last network sees
VIEWS = (0.9, 1.1)  # sides of the squares in which a face is confirmed, in sides of the box where it is expected
PROPOSED, REFINED = 0.6, 0.7  # probabilities above which the first two networks let a candidate pass


class MtcnnDetector:
    def __init__(self, threshold: float, device: str, weights: Path | None = None) -> None:
        """weights: as of `load_mtcnn`."""
        self.threshold = threshold
        self.device = torch.device(device)
        # channels_last: several times faster pooling on a CPU.
        networks = load_mtcnn(weights).to(self.device).to(memory_format=torch.channels_last)
        self.pnet, self.rnet, self.onet = networks.pnet, networks.rnet, networks.onet

    @torch.inference_mode()
    def detect(self, frames: Sequence[NDArray[np.uint8]], min_face: float) -> list[list[Detection]]:
        """All faces whose shorter side is at least `min_face` px; frames are HWC uint8 RGB, [0, 255], of one size."""
        if not frames:
            return []
        frames_B3HW = self._to_input(np.stack(frames))
        # Candidates of one face are dropped before they are moved, since then they are alike: the next network is to
        # choose. Only the last one's are dropped where they end.
        box_N4, frame_N = self._propose(frames, min_face)
        box_N4, shift_N4, score_N = look(self.rnet, 24, frames_B3HW, box_N4, frame_N)
        keep = best(box_N4, score_N, frame_N, REFINED, overlap=0.7)
        box_N4, frame_N = moved(box_N4[keep], shift_N4[keep]), frame_N[keep]
        box_N4, shift_N4, score_N = look(self.onet, LAST, frames_B3HW, box_N4, frame_N)
        box_N4 = moved(box_N4, shift_N4)
        keep = best(box_N4, score_N, frame_N, self.threshold, overlap=0.4)
        box_K4 = voted(box_N4[keep], frame_N[keep], box_N4, score_N, frame_N)
        found = torch.cat([box_K4, score_N[keep, None]], dim=1).cpu().numpy()
        of_frame = frame_N[keep].cpu().numpy()
        return [detections(found[of_frame == i], frame, min_face) for i, frame in enumerate(frames)]

    @torch.inference_mode()
    def confirm(self, frames: Sequence[NDArray[np.uint8]], boxes: Sequence[Detection]) -> list[Detection | None]:
        """What the last network alone says of each box: the mean of what it makes of a narrower and a wider view."""
        if not frames:
            return []
        seen_VN4, shift_VN4, score_VN, _ = self._views(frames, boxes)
        box_VN4, score_VN1 = moved(seen_VN4, shift_VN4), score_VN[..., None]
        mean_N4 = (score_VN1 * box_VN4).sum(dim=0) / score_VN1.sum(dim=0)
        row_N5 = torch.cat([mean_N4, score_VN1.amax(dim=0)], dim=1).cpu().numpy()
        found = [detections(row[None], frame, 0) for row, frame in zip(row_N5, frames, strict=True)]
        return [faces[0] if faces[0].score >= self.threshold else None for faces in found]

    @torch.inference_mode()
    def landmarks(self, frames: Sequence[NDArray[np.uint8]], boxes: Sequence[Detection]) -> list[NDArray[np.float32]]:
        """x and y of five points of the face in each frame's box, (5, 2), px of the frame.

        Left eye, right eye, nose, left and right corner of the mouth, as seen in the frame; means over the views of
        `confirm`. A box without a face gets points, too.
        """
        if not frames:
            return []
        seen_VN4, *_, point_VN52 = self._views(frames, boxes)
        corner_VN12, side_VN12 = seen_VN4[..., None, :2], (seen_VN4[..., 2:] - seen_VN4[..., :2])[..., None, :]
        return list((corner_VN12 + point_VN52 * side_VN12).mean(dim=0).cpu().numpy())

    @torch.inference_mode()
    def features(self, crops: Sequence[NDArray[np.uint8]], scale: float) -> NDArray[np.float32]:
        """What its last network, which was trained on photographs of faces, makes of each face, (N, 256).

        crops: squares of `scale` times the longer side of the face's box, around its centre, HWC uint8 RGB.
        """
        return np.asarray(self.onet.features(self._inner(crops, scale)).cpu().numpy())

    @torch.inference_mode()
    def marks(
        self, crops: Sequence[NDArray[np.uint8]], scale: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What its last network says of each crop of `features`: the points of `landmarks` in sides of the crop,
        (N, 5, 2), and the probability that there is a face, (N,)."""
        _, score_N, point_N52 = self.onet(self._inner(crops, scale))
        return ((point_N52 - 0.5) / scale + 0.5).cpu().numpy(), score_N.cpu().numpy()

    def _inner(self, crops: Sequence[NDArray[np.uint8]], scale: float) -> Tensor:
        """The box of each crop, as the last network sees it."""
        whole = round(LAST * scale)
        edge = (whole - LAST) // 2
        inner = [_shrink(crop, (whole, whole))[edge : edge + LAST, edge : edge + LAST] for crop in crops]
        return self._to_input(np.stack(inner))

    def _views(
        self, frames: Sequence[NDArray[np.uint8]], boxes: Sequence[Detection]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the last network says of V views of each box: the square seen, and its answers."""
        square_N4 = squares(torch.tensor([box[:4] for box in boxes]))
        centre_N2, side_N1 = (square_N4[:, :2] + square_N4[:, 2:]) / 2, square_N4[:, 2:] - square_N4[:, :2]
        seen_M4 = torch.cat([torch.cat([centre_N2 - side_N1 * v / 2, centre_N2 + side_N1 * v / 2], 1) for v in VIEWS])
        patches = [patch(frame, *seen) for frame, seen in zip([*frames] * len(VIEWS), seen_M4.tolist(), strict=True)]
        answers = seen_M4.to(self.device), *self.onet(self._to_input(np.stack(patches)))
        seen_VN4, shift_VN4, score_VN, point_VN52 = (part.unflatten(0, (len(VIEWS), -1)) for part in answers)
        return seen_VN4, shift_VN4, score_VN, point_VN52

    def _to_input(self, frames_BHW3: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(frames_BHW3).to(self.device).permute(0, 3, 1, 2).float().sub_(127.5).div_(128)

    def _propose(self, frames: Sequence[NDArray[np.uint8]], min_face: float) -> tuple[Tensor, Tensor]:
        """Candidates by the first network, on every level of an image pyramid: boxes and frame numbers."""
        height, width = frames[0].shape[:2]
        parts = [torch.zeros(0, 10, device=self.device)]
        level = list(frames)
        for scale in pyramid(height, width, min_face):
            size = (int(width * scale + 1), int(height * scale + 1))
            level = [_shrink(frame, size) for frame in level]  # from the level before: a fraction of the work
            parts.append(self._propose_at(np.stack(level), scale))
        window_N4, shift_N4, score_N1, frame_N1 = torch.cat(parts).split([4, 4, 1, 1], dim=1)
        keep = best(window_N4, score_N1[:, 0], frame_N1[:, 0], PROPOSED, overlap=0.7)
        return moved(window_N4[keep], shift_N4[keep]), frame_N1[keep, 0]

    def _propose_at(self, level_BHW3: NDArray[np.uint8], scale: float) -> Tensor:
        """Window, shift, score and frame number of each candidate of one level, (N, 10)."""
        shift_B4hw, score_Bhw = self.pnet(self._to_input(level_BHW3))
        frame_N, y_N, x_N = torch.nonzero(score_Bhw > PROPOSED, as_tuple=True)
        score_N = score_Bhw[frame_N, y_N, x_N]
        corner_N2 = torch.stack([x_N, y_N], dim=1) * STRIDE
        window_N4 = torch.cat([corner_N2, corner_N2 + WINDOW], dim=1) / scale
        shift_N4 = shift_B4hw[frame_N, :, y_N, x_N]
        candidate_N10 = torch.cat([window_N4, shift_N4, score_N[:, None], frame_N[:, None]], dim=1)
        return candidate_N10[best(window_N4, score_N, frame_N, PROPOSED, overlap=0.5)]


def look(
    network: Callable[[Tensor], tuple[Tensor, ...]], size: int, frames_B3HW: Tensor, box_N4: Tensor, frame_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What a network says of the candidates, each seen as a square of `size` px: that square, its shift, its score."""
    box_N4 = squares(box_N4)
    if not len(box_N4):
        return box_N4, box_N4, box_N4.new_zeros(0)
    seen = roi_align(frames_B3HW, torch.cat([frame_N[:, None], box_N4], dim=1), size, sampling_ratio=2, aligned=True)
    shift_N4, score_N, *_ = network(seen)
    return box_N4, shift_N4, score_N


def patch(frame: NDArray[np.uint8], x1: float, y1: float, x2: float, y2: float) -> NDArray[np.uint8]:
    """A square of an HWC frame as the last network sees it; beyond the border the frame's last pixels go on."""
    side = max(1, round(x2 - x1))
    whole = cv2.getRectSubPix(frame, (side, side), ((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2))
    return _shrink(np.asarray(whole, dtype=np.uint8), (LAST, LAST))


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


def voted(box_K4: Tensor, frame_K: Tensor, box_N4: Tensor, score_N: Tensor, frame_N: Tensor) -> Tensor:
    """The chosen boxes, each as the mean of the candidates that overlap it by half, weighted by their scores.

    Of many candidates that are all nearly sure, which one is the surest is chance; their mean is steady.
    """
    votes_KN = (box_iou(box_K4, box_N4) >= 0.5) * (frame_K[:, None] == frame_N) * score_N
    return votes_KN @ box_N4 / votes_KN.sum(dim=1, keepdim=True)


def moved(box_N4: Tensor, shift_N4: Tensor) -> Tensor:
    """Boxes whose corners are shifted by shares of their width and height."""
    side_N2 = box_N4[..., 2:] - box_N4[..., :2]
    return box_N4 + shift_N4 * torch.cat([side_N2, side_N2], dim=-1)


def squares(box_N4: Tensor) -> Tensor:
    """Squares of the longer side around the boxes' centres."""
    half_N1 = (box_N4[:, 2:] - box_N4[:, :2]).amax(dim=1, keepdim=True) / 2
    centre_N2 = (box_N4[:, :2] + box_N4[:, 2:]) / 2
    return torch.cat([centre_N2 - half_N1, centre_N2 + half_N1], dim=1)
