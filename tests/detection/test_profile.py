"""What the training crops look like, and faces that look otherwise."""

import numpy as np

from emd_core.detection.profile import distance_over_limit, distances, evenly, fit_profile
from emd_core.faces.boxes import crop_square, cut
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.sample.scene import Take
from tests.fakes import tiny

SCALE = 1.3


def crops_of(frames: list[tiny.Image], faces: MtcnnDetector) -> list[tiny.Image]:
    """The largest face of each frame as a crop of 64 px."""
    found = [max(boxes, key=lambda box: box.side) for boxes in faces.detect(frames, 20) if boxes]
    size = frames[0].shape[1::-1]
    return [cut(frame, crop_square(box, *size, SCALE), 64) for frame, box in zip(frames, found, strict=False)]


def test_faces_drawn_by_another_hand_are_unlike() -> None:
    faces = MtcnnDetector(0.7, "cpu")
    frames = [f for mouth in (0.03, 0.05, 0.08) for f in tiny.face_frames(20, start=40, mouth=mouth)]
    features = faces.features(crops_of(frames, faces), SCALE)
    train, val = features[::2], [features[i::20] for i in range(1, 20, 2)]
    n = len(train)
    profile = fit_profile(train, np.linspace(60, 100, n), np.linspace(5, 50, n), val)
    assert distances(profile, train).mean() < 1.2 and max(distance_over_limit(profile, v) for v in val) < 1
    take = Take(seed=0, number=3, frames=12, width=320, height=240)
    others = crops_of([np.asarray(take.frame(t), np.uint8) for t in range(12)], faces)
    assert len(others) > 6 and distance_over_limit(profile, faces.features(others, SCALE)) > 1
    assert 60 < profile.side < 61 and 5 < profile.sharpness < 6  # 1 % are below


def test_rows_are_spread_evenly() -> None:
    assert evenly(np.arange(10), 4).tolist() == [0, 3, 6, 9] and evenly(np.arange(3), 8).tolist() == [0, 1, 2]
