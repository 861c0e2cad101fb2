"""Blends: what is laid over what, where, and how chance chooses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emd_core.detection.blending import (
    FACE,
    OUTLINE,
    USUAL,
    blend_faces,
    fill,
    lay_over,
    recolour,
    similarity,
    transform,
)
from emd_core.detection.blends import NEAREST, Blends, find_landmarks
from emd_core.detection.crops import FaceCrops
from emd_core.errors import UserError
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.training.resuming import Preemption
from tests.fakes.tiny import draw_face
from tests.fakes.training_data import SIZE, write_training_data


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> FaceCrops:
    """Six originals, each of its own target."""
    data = write_training_data(tmp_path_factory.mktemp("data"))
    return FaceCrops(data / "faces", data / "masks", "train", [])


def make(crops: FaceCrops, seed: int = 0) -> Blends:
    return Blends(crops, np.arange(len(crops)), seed, np.tile(USUAL, (len(crops), 1, 1)))


def mirrored(points: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """The five points of the mirrored picture: left and right change places."""
    return np.abs([size, 0] - points)[[1, 0, 2, 4, 3]]


def test_a_blend_by_hand() -> None:
    base, face = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 201, np.uint8)
    mask = np.zeros((4, 4), np.float32)
    mask[1:3, 1:3] = 1
    mask[3, 0] = 0.25
    laid = lay_over(base, face, mask)
    assert (laid[1:3, 1:3] == 201).all()
    assert (laid[3, 0] == 125).all()  # 0.25 * 201 + 0.75 * 100
    assert (laid[0] == 100).all() and (laid[3, 1:] == 100).all()


def test_every_byte_stays_where_the_mask_is_0_and_goes_where_it_is_1() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    mask = np.zeros((16, 16), np.float32)
    assert np.array_equal(lay_over(grey, 255 - grey, mask), grey)
    assert np.array_equal(lay_over(grey, 255 - grey, mask + 1), 255 - grey)


def test_colours_by_hand() -> None:
    """Inside the face has 50 and 70, the base 100 and 140: twice the contrast around 120."""
    mask = np.array([[1, 1, 0]], np.float32)
    face = np.array([[50, 70, 90]], np.uint8)[..., None].repeat(3, axis=2)
    base = np.array([[140, 100, 3]], np.uint8)[..., None].repeat(3, axis=2)
    assert recolour(face, base, mask)[0, :, 0].tolist() == [100, 140, 180]


def test_a_face_is_moved_onto_another() -> None:
    angle = np.radians(20)
    turn = 1.3 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(FACE, FACE @ turn.T + [3, -2])
    np.testing.assert_allclose(matrix, np.column_stack([turn, [3, -2]]), atol=1e-12)


def test_the_outline_of_a_mirrored_face_is_mirrored() -> None:
    points = USUAL * 96 + np.array([[4, -2], [1, 3], [-5, 0], [2, 2], [0, -1]])
    outline, other = (transform(OUTLINE, similarity(FACE, p)) for p in (points, mirrored(points, 96)))
    np.testing.assert_allclose(np.abs([96, 0] - outline)[::-1], other, atol=1e-9)


def test_a_fresh_blend_is_the_base_outside_and_another_face_inside() -> None:
    base, face = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    blend = blend_faces(base, USUAL * 96, face, USUAL * 96, np.random.default_rng(1))
    assert blend.mask.dtype == np.float32 and blend.mask.min() == 0 and blend.mask.max() <= 1
    assert 0.1 < blend.mask.mean() < 0.5 and blend.mask[40:60, 40:60].min() > 0.9
    outside = blend.mask == 0
    assert outside.any() and np.array_equal(blend.picture[outside], base[outside])
    assert (blend.picture != base)[40:60, 40:60].mean() > 0.9


def test_a_filled_outline() -> None:
    square = np.array([[1.2, 1.0], [3.0, 1.0], [2.0, 2.0], [3.0, 3.0], [1.0, 3.0]])  # one point within the hull
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = 1
    assert np.array_equal(fill(square, 5), expected)


def test_chance_knows_seed_and_row_alone(crops: FaceCrops) -> None:
    """Not the batch, its order or the process: a resumed training and any number of ranks see the same blends."""
    blends = make(crops)
    rows = blends.rows(3)
    assert rows.tolist() == [*range(6), *range(18, 24)]
    whole = blends.read(rows)
    assert whole.label.tolist() == [0] * 6 + [1] * 6 and whole.known.all()
    assert (whole.image[:6] == crops.read(np.arange(6)).image).all() and not whole.mask[:6].any()
    again = make(crops)
    for share in (rows[::2], rows[1::2][::-1]):
        part, place = again.read(share), np.searchsorted(rows, share)
        assert (part.image == whole.image[place]).all() and (part.mask == whole.mask[place]).all()
    for other in (blends.read(blends.rows(4)), make(crops, seed=1).read(rows)):
        assert all((a != b).any() for a, b in zip(other.mask[6:], whole.mask[6:], strict=True))


def test_a_face_is_of_another_target_in_the_same_quality_and_a_near_pose(crops: FaceCrops) -> None:
    """Of 40 originals of 20 targets the landmarks move to the right with their number; every fourth is c40."""
    table = crops.table.loc[np.arange(40) % 6].reset_index(drop=True)
    table["target"] = [f"{i // 8}-{i % 4}" for i in range(40)]
    table["quality"] = ["c40" if i % 8 < 4 else "c23" for i in range(40)]
    many = object.__new__(FaceCrops)
    many.table, many.size = table, SIZE
    landmarks = USUAL + 0.01 * np.arange(40, dtype=np.float32)[:, None, None]
    blends = Blends(many, np.arange(40), 0, landmarks)
    lenders = {blends.choose_lender(20, np.random.default_rng(i)) for i in range(300)}
    allowed = [i for i in range(40) if i % 8 >= 4 and table["target"][i] != table["target"][20]]
    assert lenders == set(sorted(allowed, key=lambda i: (abs(i - 20), i))[:NEAREST])


def test_one_target_is_not_enough(crops: FaceCrops) -> None:
    with pytest.raises(UserError, match="originals of 1 target in one quality, but a blend needs those of two"):
        Blends(crops, np.array([2]), 0, USUAL[None])


def test_landmarks_are_found_on_faces_and_usual_elsewhere(
    crops: FaceCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = find_landmarks(crops, np.array([1, 4]), Preemption(""))
    assert np.array_equal(noise, np.stack([USUAL, USUAL]))
    picture = np.full((128, 128, 3), 90, np.uint8)
    draw_face(picture, 64, 64, 100)
    points, score = MtcnnDetector(0.5, "cpu").marks([picture, cv2.flip(picture, 1)], 1.3)
    assert (score > 0.5).all()
    assert np.abs(points[0] - USUAL).max() < 0.1
    np.testing.assert_allclose(mirrored(points[0], 1), points[1], atol=0.03)
