"""Scores and masks of face crops."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emd_core.detection.crops import Batch, FaceCrops
from emd_core.errors import UserError
from emd_core.models.detector import Detector
from emd_core.models.parts.precision import Precision, autocast, to_input


class Prediction(NamedTuple):
    score: np.ndarray  # B, probability that the face is manipulated
    mask: np.ndarray | None  # BHW, that each pixel is; None where the model does not localise
    expression: np.ndarray | None  # B, the recognised class; None where the model recognises none


def predict(model: Detector, image_B3HW: Tensor, precision: Precision) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 RGB crops -> probability that the face is manipulated, B, and that each pixel is, BHW, in [0, 1].

    The second is None where the model does not localise.
    """
    return predict_with_expression(model, image_B3HW, precision)[:2]


@torch.inference_mode()
def predict_with_expression(model: Detector, image_B3HW: Tensor, precision: Precision) -> Prediction:
    """uint8 RGB crops -> all that the network says of them."""
    device = next(model.parameters()).device
    with autocast(device, precision):
        image = to_input(image_B3HW, device)
        features, expression_B = model.recognise(image)
        logits_B2, mask_B1HW = model(image, features)
    score = logits_B2.float().softmax(1)[:, 1].cpu().numpy()
    mask = None if mask_B1HW is None else mask_B1HW.float().sigmoid().squeeze(1).cpu().numpy()
    if not (np.isfinite(score).all() and (mask is None or np.isfinite(mask).all())):
        raise UserError(
            "the network's answers are not finite, so nothing can be said of them: its training diverged, or its "
            "numbers overflow; train it with a lower learning rate, or compute in fp32."
        )
    return Prediction(score, mask, None if expression_B is None else expression_B.cpu().numpy())


def predict_all(
    model: Detector, crops: FaceCrops, batch_size: int, precision: Precision
) -> Iterator[tuple[Batch, np.ndarray, np.ndarray | None]]:
    """Each batch of the crops, in order, with its scores and mask scores, as `predict` gives them."""
    for batch in crops.batches(np.arange(len(crops)), batch_size):
        yield batch, *predict(model, batch.image, precision)
