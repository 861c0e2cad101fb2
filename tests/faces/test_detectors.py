"""Detectors give boxes in pixels of the frame, and refuse weights that are not theirs."""

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from retinaface.predict_single import Model

from emd_core.errors import UserError
from emd_core.faces.boxes import Detection
from emd_core.faces.detectors import load_retinaface, make_detector
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.faces.mtcnn_networks import save_mtcnn
from emd_core.faces.retina_face import RetinaFaceDetector
from emd_core.faces.search import iou
from emd_core.sample.scene import Take
from tests.fakes import tiny


@pytest.fixture(scope="module")
def mtcnn() -> MtcnnDetector:
    return MtcnnDetector(threshold=0.9, device="cpu")


def test_mtcnn_finds_a_drawn_face(mtcnn: MtcnnDetector) -> None:
    [first, none, last] = mtcnn.detect([tiny.face_frames(6)[0], tiny.flat_frames(1)[0], tiny.face_frames(6)[5]], 20)
    assert (len(first), none, len(last)) == (1, [], 1)
    assert first[0].x1 < 45 < first[0].x2 and first[0].y1 < 48 < first[0].y2
    assert 0.5 * tiny.FACE < first[0].side < 1.1 * tiny.FACE
    assert last[0].x1 - first[0].x1 == pytest.approx(10, abs=5)  # it moved by 5 times 2 px


def test_mtcnn_finds_what_its_package_finds() -> None:
    """Only the networks are the same, the cascade is our own: boxes of drawn people overlap by 0.8 and more."""
    reference = MTCNN(keep_all=True, min_face_size=20, thresholds=[0.6, 0.7, 0.7])
    frames = [Take(seed=0, number=n, frames=60, width=320, height=240).frame(10 * n) for n in range(6)]
    for frame, found in zip(frames, MtcnnDetector(0.7, "cpu").detect(frames, 20), strict=True):
        boxes, scores = reference.detect(frame)
        assert len(found) == len(boxes) == 1
        assert iou(found[0], Detection(*boxes[0], scores[0])) > 0.8


def test_the_networks_answer_as_those_of_their_package(mtcnn: MtcnnDetector) -> None:
    """Bit for bit, on all that the detector shows them of drawn faces."""
    seen: list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]] = []
    for ours, theirs in ((mtcnn.pnet, PNet()), (mtcnn.rnet, RNet()), (mtcnn.onet, ONet())):
        seen.clear()
        with ours.register_forward_hook(lambda _, given, answer: seen.append((given[0], answer))):
            mtcnn.detect(tiny.face_frames(3), 20)
        theirs.to(memory_format=torch.channels_last)
        for given, (shift, score, *points) in seen:
            with torch.inference_mode():
                their_shift, *their_points, probability = theirs(given)
            assert torch.equal(shift, their_shift) and torch.equal(score, probability[:, 1])
            assert [p.mT.flatten(1).tolist() for p in points] == [p.tolist() for p in their_points]
        assert sum(len(given) for given, _ in seen) >= 3


def test_mtcnn_needs_only_its_file(mtcnn: MtcnnDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mtcnn.safetensors"
    save_mtcnn(file)
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)  # as if it were not installed
    detector = make_detector("mtcnn", threshold=0.9, weights=file)
    assert detector.detect(tiny.face_frames(3), 20) == mtcnn.detect(tiny.face_frames(3), 20) != [[]] * 3
    with pytest.raises(UserError, match="facenet-pytorch, which is not installed; install it with `make setup`, or"):
        make_detector("mtcnn", threshold=0.9, weights=None)


def test_mtcnn_leaves_out_smaller_faces(mtcnn: MtcnnDetector) -> None:
    frame = tiny.face_frames(1)[0]
    [[face]] = mtcnn.detect([frame], 20)
    assert mtcnn.detect([frame], face.side) == [[]]


def test_mtcnn_confirms_a_face_where_it_is_expected(mtcnn: MtcnnDetector) -> None:
    """The box of a drawn person, shifted by a sixth, comes back to its place; there is no face on the wall."""
    frames = [Take(seed=0, number=n, frames=60, width=320, height=240).frame(10 * n) for n in range(4)]
    faces = [face for [face] in mtcnn.detect(frames, 20)]
    shifted = [Detection(f.x1 + f.side / 6, f.y1, f.x2 + f.side / 6, f.y2, f.score) for f in faces]
    for face, expected, confirmed in zip(faces, shifted, mtcnn.confirm(frames, shifted), strict=True):
        assert confirmed and confirmed.score >= 0.9 and iou(confirmed, face) > 0.75 > iou(expected, face)
    assert mtcnn.confirm(frames, [Detection(0, 0, 40, 40, 1)] * 4) == [None] * 4
    assert mtcnn.confirm([], []) == []


def test_mtcnn_marks_eyes_nose_and_mouth(mtcnn: MtcnnDetector) -> None:
    """Where they were drawn, within a twentieth of the face's height, also where the box is a tenth of it off."""
    frames = tiny.face_frames(4)
    faces = [face for [face] in mtcnn.detect(frames, 20)]
    drawn = np.array([(-0.15, -0.05), (0.15, -0.05), (0, 0.1), (-0.13, 0.26), (0.13, 0.26)])  # as tiny.draw_face does
    for off in (0, 0.1 * tiny.FACE):
        boxes = [Detection(f.x1 + off, f.y1 - off, f.x2 + off, f.y2 - off, f.score) for f in faces]
        for n, points in enumerate(mtcnn.landmarks(frames, boxes)):
            where = (45 + 2 * n, tiny.HEIGHT / 2) + drawn * tiny.FACE
            assert np.linalg.norm(points - where, axis=1).max() < 0.05 * tiny.FACE
    assert mtcnn.landmarks([], []) == []


@pytest.mark.parametrize("shape", [(10, 14, 3), (19, 300, 3)])
def test_frames_smaller_than_a_face_have_none(mtcnn: MtcnnDetector, shape: tuple[int, int, int]) -> None:
    assert mtcnn.detect([np.zeros(shape, dtype=np.uint8)] * 2, 20) == [[], []]
    assert mtcnn.detect([], 20) == []


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(Model(max_size=64, device="cpu").model.state_dict())


def test_retinaface_finds_what_its_package_finds(state: dict[str, torch.Tensor]) -> None:
    """Random weights see faces everywhere, also across the borders; both must see the same ones."""
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), dtype=np.uint8))
    reference = Model(max_size=80, device="cpu")
    reference.load_state_dict(OrderedDict(state))
    reference.eval()
    for frame, found in zip(frames, RetinaFaceDetector(state, 0.5, "cpu").detect(frames, 12), strict=True):
        boxes = np.array(found)[:, :4]
        assert len(found) > 10 and (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= 80).all() and (boxes[:, [1, 3]] <= 48).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 12).all()
        theirs = np.array([f["bbox"] for f in reference.predict_jsons(frame, confidence_threshold=0.5)])
        theirs = np.clip(theirs, 0, [80, 48, 80, 48])
        large = (theirs[:, 2:] - theirs[:, :2]).min(axis=1) >= 12
        np.testing.assert_allclose(sorted(boxes.tolist()), sorted(theirs[large].tolist()), atol=0.02)


def test_retinaface_without_a_face_finds_none(state: dict[str, torch.Tensor]) -> None:
    detector = RetinaFaceDetector(state, 1.0, "cpu")
    assert detector.detect(tiny.flat_frames(2), 12) == [[], []]
    assert detector.detect([], 12) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "does not exist"), (b"no weights", "is not a file of weights"), (b"", "is empty; copy it again")],
)
def test_bad_weight_files_are_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "retinaface.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"retinaface.pt {says}"):
        load_retinaface(path)


@pytest.mark.parametrize(
    ("name", "says"),
    [("retinaface", "do not fit RetinaFace-ResNet50"), ("mtcnn", "lacks 'pnet.conv1.weight'")],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, name: Literal["mtcnn", "retinaface"], says: str) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=says):
        make_detector(name, threshold=0.9, weights=tmp_path / "other.pt")
