"""Face detectors behind one method, `detect`: RGB frames in, boxes out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray

from emd_core.errors import UserError
from emd_core.faces.boxes import Detection
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.storage.weights import read_state_dict

RETINAFACE_RELEASE = "resnet50_2020-07-20"


class FaceDetector(Protocol):
    def detect(self, frames: Sequence[NDArray[np.uint8]], min_face: float) -> list[list[Detection]]:
        """All faces of each frame whose shorter side is at least `min_face` px.

        Frames are HWC uint8 RGB, [0, 255], all of one size.
        """

    def confirm(self, frames: Sequence[NDArray[np.uint8]], boxes: Sequence[Detection]) -> list[Detection | None]:
        """The face where each frame's box expects it, None where that is not sure without looking around."""


def make_detector(name: Literal["mtcnn", "retinaface"], *, threshold: float, weights: Path | None) -> FaceDetector:
    """The detector of that name, on the GPU where there is one.

    Args:
        threshold: confidence in [0, 1] below which a face is left out.
        weights: the detector's state dict; None: the published one (RetinaFace's is downloaded, MTCNN's is installed).
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "retinaface":
        from emd_core.faces.retina_face import (
            RetinaFaceDetector,  # brings albumentations: seconds that MTCNN need not wait
        )

        return RetinaFaceDetector(load_retinaface(weights), threshold, device)
    return MtcnnDetector(threshold, device, weights)


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
    if not weights.exists():
        raise UserError(f"crop_faces.weights: {weights} does not exist; name RetinaFace's weight file, or null.")
    return read_state_dict(weights)
