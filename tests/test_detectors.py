"""Detectors give boxes in pixels of the frame, and refuse weights that are not theirs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from retinaface.predict_single import Model

from emd_core.detectors import MtcnnDetector, RetinaFaceDetector, load_retinaface, make_detector
from emd_core.errors import UserError
from tests import tiny


@pytest.fixture(scope="module")
def mtcnn() -> MtcnnDetector:
    return MtcnnDetector(min_face=20, threshold=0.9, device="cpu")


def test_mtcnn_finds_a_drawn_face(mtcnn: MtcnnDetector) -> None:
    [first, none, last] = mtcnn.detect([tiny.face_frames(6)[0], tiny.flat_frames(1)[0], tiny.face_frames(6)[5]])
    assert (len(first), none, len(last)) == (1, [], 1)
    assert first[0].x1 < 45 < first[0].x2 and first[0].y1 < 48 < first[0].y2
    assert 0.5 * tiny.FACE < first[0].side < 1.1 * tiny.FACE
    assert last[0].x1 - first[0].x1 == pytest.approx(10, abs=5)  # it moved by 5 times 2 px


@pytest.mark.parametrize("shape", [(10, 14, 3), (19, 300, 3)])
def test_frames_smaller_than_a_face_have_none(mtcnn: MtcnnDetector, shape: tuple[int, int, int]) -> None:
    assert mtcnn.detect([np.zeros(shape, dtype=np.uint8)] * 2) == [[], []]
    assert mtcnn.detect([]) == []


@pytest.fixture(scope="module")
def random_retinaface() -> RetinaFaceDetector:
    torch.manual_seed(0)
    state = Model(max_size=64, device="cpu").model.state_dict()
    return RetinaFaceDetector(state, min_face=12, threshold=0.5, device="cpu")


@pytest.mark.parametrize(
    ("height", "width", "seen"),
    [(48, 80, (48, 80)), (700, 350, (640, 320))],
)
def test_retinaface_never_enlarges(
    random_retinaface: RetinaFaceDetector, height: int, width: int, seen: tuple[int, int]
) -> None:
    shapes = []
    network = random_retinaface.model.model
    hook = network.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[2:])))
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    [found] = random_retinaface.detect([noise])
    hook.remove()
    assert shapes == [seen]
    # Random weights see faces everywhere, also across the borders.
    boxes = np.array(found)[:, :4]
    assert len(found) > 10
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= width).all() and (boxes[:, [1, 3]] <= height).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 12).all()
    assert boxes.max() > 0.8 * max(height, width)  # in pixels of the frame, not of the shrunk one


def test_retinaface_without_a_face_finds_none(
    random_retinaface: RetinaFaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_retinaface, "threshold", 1.0)
    assert random_retinaface.detect(tiny.flat_frames(2)) == [[], []]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "does not exist"), (b"no weights", "no PyTorch state dict"), (b"", "no PyTorch state dict")],
)
def test_bad_weight_files_are_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "retinaface.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"crop_faces.weights.*{says}"):
        load_retinaface(path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="do not fit RetinaFace-ResNet50"):
        make_detector("retinaface", min_face=20, threshold=0.9, weights=tmp_path / "other.pt")


def test_weights_for_mtcnn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set it to null"):
        make_detector("mtcnn", min_face=20, threshold=0.9, weights=tmp_path / "a.pt")
