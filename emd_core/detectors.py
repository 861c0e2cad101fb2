"""Face detectors behind one method, `detect`: RGB frames in, boxes out."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.error import URLError

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray

from emd_core.boxes import Detection
from emd_core.errors import UserError

RETINAFACE_RELEASE = "resnet50_2020-07-20"
RETINAFACE_MAX_SIDE = 640  # px; larger frames are shrunk to this, as one of 640 x 480 costs 66 GFLOP already

Frame = NDArray[np.uint8]


class FaceDetector(Protocol):
    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """All faces of each frame; frames are HWC uint8 RGB, [0, 255], of one size."""


def make_detector(
    name: Literal["mtcnn", "retinaface"], *, min_face: int, threshold: float, weights: Path | None
) -> FaceDetector:
    """The detector of that name, on the GPU where there is one.

    Args:
        min_face: faces with a shorter box side (px) are left out.
        threshold: confidence in [0, 1] below which a face is left out.
        weights: RetinaFace's state dict; None downloads its published one. MTCNN brings its own.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "retinaface":
        return RetinaFaceDetector(load_retinaface(weights), min_face, threshold, device)
    if weights is not None:
        raise UserError("crop_faces.weights is for retinaface, but the detector is mtcnn; set it to null.")
    return MtcnnDetector(min_face, threshold, device)


class MtcnnDetector:
    """MTCNN [Zhang et al., 2016] of facenet-pytorch, whose weights are part of its wheel."""

    def __init__(self, min_face: int, threshold: float, device: str) -> None:
        self.min_face = min_face
        self.threshold = threshold
        self.model = MTCNN(
            keep_all=True, min_face_size=min_face, thresholds=[0.6, 0.7, threshold], device=torch.device(device)
        )

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        if not frames or min(frames[0].shape[:2]) < self.min_face:  # MTCNN fails where its image pyramid is empty
            return [[] for _ in frames]
        boxes, scores = self.model.detect(np.stack(frames))
        return [
            _keep(b, s, frame, self.min_face, self.threshold) if b is not None else []
            for frame, b, s in zip(frames, boxes, scores, strict=True)
        ]


class RetinaFaceDetector:
    """RetinaFace [Deng et al., 2020] with ResNet-50, of retinaface-pytorch."""

    def __init__(self, state: dict[str, torch.Tensor], min_face: int, threshold: float, device: str) -> None:
        from retinaface.predict_single import Model  # brings albumentations: seconds that MTCNN need not wait

        self.min_face = min_face
        self.threshold = threshold
        self.model = Model(max_size=RETINAFACE_MAX_SIDE, device=device)
        try:
            self.model.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"crop_faces.weights do not fit RetinaFace-ResNet50 ({reason}…).") from None
        self.model.eval()

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        return [self._detect_one(frame) for frame in frames]

    def _detect_one(self, frame: Frame) -> list[Detection]:
        import albumentations as A

        # The package's own transform would enlarge a frame that is smaller than max_size.
        side = min(RETINAFACE_MAX_SIDE, max(frame.shape[:2]))
        self.model.transform = A.Compose([A.LongestMaxSize(max_size=side), A.Normalize()])
        found = self.model.predict_jsons(frame, confidence_threshold=self.threshold)
        found = [face for face in found if face["bbox"]]  # "no face" comes as one face with an empty box
        boxes = np.array([face["bbox"] for face in found], dtype=np.float64).reshape(-1, 4)
        return _keep(boxes, [face["score"] for face in found], frame, self.min_face, self.threshold)


def load_retinaface(weights: Path | None) -> dict[str, torch.Tensor]:
    """The state dict in `weights`, or the published one (about 105 MB, kept in torch's hub folder)."""
    if weights is None:
        from retinaface.pre_trained_models import models as retinaface_releases

        url = retinaface_releases[RETINAFACE_RELEASE].url
        try:
            state: dict[str, torch.Tensor] = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", weights_only=True
            )
        except (URLError, OSError) as error:
            raise UserError(
                f"RetinaFace's weights cannot be downloaded from {url} ({error}); download them elsewhere and name the "
                "file in crop_faces.weights, or use the detector mtcnn."
            ) from None
        return state
    if not weights.is_file():
        raise UserError(f"crop_faces.weights: {weights} does not exist; name RetinaFace's weight file, or null.")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"crop_faces.weights: {weights} is no PyTorch state dict ({reason}…).") from None
    return state


def _keep(boxes: Any, scores: Any, frame: Frame, min_face: int, threshold: float) -> list[Detection]:
    """Clip the (N, 4) boxes to the frame and leave out small and uncertain faces."""
    height, width = frame.shape[:2]
    corners = np.clip(np.asarray(boxes, dtype=np.float64), 0, [width, height, width, height])
    return [
        Detection(x1, y1, x2, y2, float(score))
        for (x1, y1, x2, y2), score in zip(corners.tolist(), scores, strict=True)
        if min(x2 - x1, y2 - y1) >= min_face and score >= threshold
    ]
