"""Frames -> the faces of everybody in them, each with what the network says of it. Frames come and go in batches."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from emd_core.detection.inference import predict_with_expression
from emd_core.faces.boxes import Detection, Square, crop_square, resize
from emd_core.faces.crop_figures import sharpness
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.faces.search import Reduced
from emd_core.faces.shots import Shots
from emd_core.models.detector import Detector
from emd_core.models.parts.precision import Precision
from emd_core.video.decode import Clip
from emd_core.video.rgb import RgbReader

THUMBNAIL = 160  # px, side of the picture of a face that is kept for the report
MASK_SIDE = 64  # px, side of its mask
CROPS = 4  # per pass of the network: memory, and nearly the same speed on a CPU
Image = NDArray[np.uint8]
T = TypeVar("T")


class Looking(Reduced):
    """How densely a file is looked at, and for which faces."""

    frames: int = Field(
        ge=1, description="Frames of a video that are looked at, evenly spread; more where every_s asks."
    )
    every_s: float = Field(gt=0, description="Seconds between two of these frames at most.")
    threshold: float = Field(gt=0, lt=1, description="The face detector's confidence below which a face is ignored.")
    scale: float = Field(
        ge=1, le=3, description="Side of the square cut, in longer sides of the face box; as in training."
    )
    max_faces: int = Field(ge=1, description="Faces per frame that are judged, the largest first.")

    def number_of_frames(self, clip: Clip) -> int:
        return min(clip.frames, max(self.frames, math.ceil(clip.seconds / self.every_s)))


class Network(NamedTuple):
    """What judges a face."""

    detector: Detector
    precision: Precision


class Face(NamedTuple):
    """A face in one frame."""

    box: Detection  # px of the frame
    square: Square
    score: float  # as the network gives it
    expression: int | None
    mask: (
        NDArray[np.uint8] | None
    )  # MASK_SIDE x MASK_SIDE, 255 = surely manipulated; None: the network does not localise
    picture: bytes  # JPEG, THUMBNAIL x THUMBNAIL
    sharpness: float
    features: NDArray[np.floating]  # of the face detector's last network
    landmarks: NDArray[np.float64]  # (5, 2), px of the mask


class Frame(NamedTuple):
    number: int
    time_s: float
    shot: int
    faces: list[Face]


def look(
    frames: Iterable[tuple[int, float, av.VideoFrame]], faces: MtcnnDetector, network: Network, cfg: Looking
) -> Iterator[Frame]:
    """What each frame shows, in order; all frames are of one size and come with their number and time in seconds."""
    shots, reader = Shots(), RgbReader()
    for batch in in_batches(frames, cfg.batch):
        images = [reader.reduced(frame, *cfg.reduced_size(frame.width, frame.height)) for *_, frame in batch]
        across = batch[0][2].width / images[0].shape[1]
        down = batch[0][2].height / images[0].shape[0]
        found = faces.detect(images, cfg.min_face / across)
        kept = [sorted(boxes, key=lambda box: -box.side)[: cfg.max_faces] for boxes in found]
        owners = [i for i, boxes in enumerate(kept) for _ in boxes]
        reduced = [box for boxes in kept for box in boxes]
        points = faces.landmarks([images[i] for i in owners], reduced)
        boxes = [Detection(b.x1 * across, b.y1 * down, b.x2 * across, b.y2 * down, b.score) for b in reduced]
        squares = [crop_square(box, batch[0][2].width, batch[0][2].height, cfg.scale) for box in boxes]
        room = max((square.side for square in squares), default=0)
        patches = [reader.part(batch[i][2], *square, room) for i, square in zip(owners, squares, strict=True)]
        seen = judged(patches, network, faces, cfg.scale)
        of_frame: list[list[Face]] = [[] for _ in batch]
        for i, box, square, points_52, face in zip(owners, boxes, squares, points, seen, strict=True):
            landmarks = (points_52 * [across, down] - [square.x, square.y]) * (MASK_SIDE / square.side)
            of_frame[i].append(face._replace(box=box, square=square, landmarks=landmarks))
        for (number, time_s, _), image, its in zip(batch, images, of_frame, strict=True):
            yield Frame(number, time_s, shots.number(image), its)


NOWHERE = (Detection(0, 0, 0, 0, 0), Square(0, 0, 1))


def judged(patches: list[Image], network: Network, faces: MtcnnDetector, scale: float) -> Iterator[Face]:
    """What the network says of each square patch; where it lies is not known here."""
    for some in in_batches(patches, CROPS):
        crops = [resize(patch, network.detector.side) for patch in some]
        image_B3HW = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        score, mask, expression = predict_with_expression(network.detector, image_B3HW, network.precision)
        features = faces.features(crops, scale)
        for i, (patch, crop) in enumerate(zip(some, crops, strict=True)):
            yield Face(
                *NOWHERE,
                score=float(score[i]),
                expression=None if expression is None else int(expression[i]),
                mask=None if mask is None else small_mask(mask[i]),
                picture=thumbnail(patch),
                sharpness=sharpness(crop),
                features=features[i],
                landmarks=np.zeros((5, 2)),
            )


def small_mask(mask_SS: NDArray[np.floating]) -> Image:
    small = cv2.resize(mask_SS, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA)
    return np.rint(small * 255).astype(np.uint8)


def thumbnail(patch: Image) -> bytes:
    small = cv2.cvtColor(resize(patch, THUMBNAIL), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
