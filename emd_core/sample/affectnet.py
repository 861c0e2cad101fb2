"""A small AffectNet (its newer layout): cropped faces, each with expression, valence, arousal and landmarks."""

from pathlib import Path

import cv2
import numpy as np

from emd_core.sample.expression import VALENCE_AROUSAL, random_expression
from emd_core.sample.head import Head, Image
from emd_core.sample.identity import random_identity
from emd_core.sample.landmarks import Points, landmarks
from emd_core.sample.light import random_light
from emd_core.sample.scene import OVERSAMPLING, Pose, over, photograph, random_background, view

SIDE = 96  # pixels
FACE_SHARE = 0.44  # head unit as a share of the side: the crop is 1.3 times the face
NOISE, GRAIN = (1.0, 5.0), (0.0, 4.0)  # standard deviations, grey levels


def draw_face(rng: np.random.Generator, label: int) -> tuple[Image, Points]:
    """A person who shows expression `label` (0 to 7): crop (HWC uint8 RGB) and 68 landmarks in its pixels."""
    identity, expression = random_identity(rng), random_expression(rng, label)
    unit = SIDE * FACE_SHARE
    head = Head(identity, random_light(rng), round(OVERSAMPLING * unit))
    x, y = (np.array([0.5, 0.47]) * SIDE + rng.normal(0, 0.02 * SIDE, 2)).tolist()
    pose = Pose(x, y, unit * rng.uniform(0.92, 1.05), *rng.normal(0, (0.1, 0.06, 0.04)).tolist())
    at = view(pose, head.unit, SIDE, SIDE)
    canvas, alpha = head.draw(expression)
    image = over(random_background(rng, SIDE, SIDE), at.project(canvas), at.project(alpha))
    return photograph(image, rng.uniform(*NOISE), rng.uniform(*GRAIN), rng), pose.place(landmarks(identity, expression))


def write_affectnet(folder: Path, seed: int, train_per_class: int, val_per_class: int) -> None:
    """Write {train_set,val_set}/{images,annotations}; image ids count through both sets, classes take turns."""
    number = 0
    for name, per_class in (("train_set", train_per_class), ("val_set", val_per_class)):
        images, annotations = folder / name / "images", folder / name / "annotations"
        images.mkdir(parents=True)
        annotations.mkdir()
        for k in range(per_class * len(VALENCE_AROUSAL)):
            label = k % len(VALENCE_AROUSAL)
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3, number)))
            image, points = draw_face(rng, label)
            valence, arousal = np.clip(np.array(VALENCE_AROUSAL[label]) + rng.normal(0, 0.08, 2), -1, 1)
            cv2.imwrite(str(images / f"{number}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            # AffectNet stores these as text.
            np.save(annotations / f"{number}_exp.npy", np.array(str(label)))
            np.save(annotations / f"{number}_val.npy", np.array(f"{valence:.4f}"))
            np.save(annotations / f"{number}_aro.npy", np.array(f"{arousal:.4f}"))
            np.save(annotations / f"{number}_lnd.npy", points.astype(np.float32).reshape(-1))
            number += 1
