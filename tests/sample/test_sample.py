"""The drawn data: the same from the same seed, in the official layout, manipulated where the masks say."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from components.make_sample import MakeSample, make_sample
from emd_core.datasets.dfdc import list_videos
from emd_core.sample import dfdc
from emd_core.sample.affectnet import SIDE, draw_face, write_affectnet
from emd_core.sample.dataset import METHODS, Plan, split_pairs, write_target
from emd_core.sample.encode import VideoWriter
from emd_core.sample.expression import EXPRESSIONS, Expression, expression_path
from emd_core.sample.identity import random_identity
from emd_core.sample.landmarks import EYES, INNER_LIPS, landmarks
from emd_core.sample.manipulation import MASK_RANGE, Manipulation, deepfakes, face2face, face_swap, neural_textures
from emd_core.sample.scene import Take
from emd_core.storage.manifest import VIDEOS

WIDTH, HEIGHT, FRAMES = 160, 120, 3
SAMPLE = MakeSample(
    layout="faceforensics", seed=5, train_pairs=1, val_pairs=1, test_pairs=1, frames=FRAMES, width=WIDTH,
    height=HEIGHT, train_expressions=2, val_expressions=1, workers=1,
)  # fmt: skip


def read_video(path: Path) -> np.ndarray:
    """(N, H, W, 3) uint8 RGB."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def take(number: int, seed: int = 5, frames: int = FRAMES) -> Take:
    return Take(seed, number, frames, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sample")
    make_sample(SAMPLE, dataset=folder / "dataset", expressions=folder / "expressions")
    return folder / "dataset", folder / "expressions"


@pytest.fixture(scope="module")
def dfdc_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dfdc")
    make_sample(SAMPLE.model_copy(update={"layout": "dfdc"}), dataset=folder / "dataset", expressions=folder / "faces")
    assert len(list((folder / "faces").rglob("*.jpg"))) == 24
    return folder / "dataset"


def test_layout_is_the_official_one(sample: tuple[Path, Path]) -> None:
    dataset, _ = sample
    ids = []
    for split in ("train", "val", "test"):
        for a, b in json.loads((dataset / "splits" / f"{split}.json").read_text()):
            ids += [a, b]
            for quality in ("c23", "c40"):
                assert (dataset / f"original_sequences/youtube/{quality}/videos/{a}.mp4").is_file()
                for method in METHODS:
                    for pair in (f"{a}_{b}", f"{b}_{a}"):
                        assert (dataset / f"manipulated_sequences/{method}/{quality}/videos/{pair}.mp4").is_file()
                        assert (dataset / f"manipulated_sequences/{method}/masks/videos/{pair}.mp4").is_file()
    assert len(ids) == len(set(ids)) == 6
    assert len(list(dataset.rglob("*.mp4"))) == 6 * (2 + 3 * 3)
    assert not list(dataset.parent.glob(".*"))  # nothing half-made stays


def test_dfdc_layout_is_read_by_its_ingest(dfdc_sample: Path) -> None:
    table = list_videos(dfdc_sample, ["DFDC"], ["released"])
    assert table.columns.tolist() == VIDEOS.names and set(table["status"]) == {"ok"}
    assert len(list(dfdc_sample.rglob("*.mp4"))) == len(table) == 6 * (1 + 2)
    assert table.groupby(["split", "method"]).size().to_dict() == {
        (split, method): count for split in ("train", "val", "test") for method, count in (("original", 2), ("DFDC", 4))
    }
    assert table["path"].str.fullmatch(r"dfdc_train_part_(0|35|40)/[a-z]{10}\.mp4").all()
    assert table["video"].is_unique and table["label"].tolist() == [0, 1, 1] * 6
    with av.open(str(dfdc_sample / table["path"].iat[0])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p" and stream.frames == FRAMES


def test_dfdc_fakes_are_their_original_with_another_face(dfdc_sample: Path) -> None:
    table = list_videos(dfdc_sample, ["DFDC"], ["released"])
    for _, group in table.groupby("target"):
        original, *fakes = (read_video(dfdc_sample / path).astype(int) for path in group["path"])
        for fake in fakes:
            change = np.abs(fake - original).mean(axis=(0, -1))
            assert np.percentile(change, 97) > 3 * np.percentile(change, 50)  # most of the frame is as it was
        assert np.abs(fakes[0] - fakes[1]).max() > 20


def test_videos_are_what_ffpp_ships(sample: tuple[Path, Path]) -> None:
    with av.open(str(sample[0] / "original_sequences/youtube/c23/videos/000.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv444p" and stream.average_rate == 25
        assert (stream.width, stream.height, stream.frames) == (WIDTH, HEIGHT, FRAMES)


def test_lower_quality_is_smaller(sample: tuple[Path, Path]) -> None:
    videos = sample[0] / "manipulated_sequences/Face2Face"
    for better, worse in zip(sorted(videos.glob("c23/**/*.mp4")), sorted(videos.glob("c40/**/*.mp4")), strict=True):
        assert worse.stat().st_size < better.stat().st_size / 2


@pytest.mark.parametrize("method", METHODS)
def test_compressed_fakes_differ_inside_the_mask(sample: tuple[Path, Path], method: str) -> None:
    root = sample[0] / "manipulated_sequences" / method
    original = read_video(sample[0] / "original_sequences/youtube/c23/videos/000.mp4").astype(int)
    fake = read_video(root / "c23/videos/000_001.mp4").astype(int)
    mask = read_video(root / "masks/videos/000_001.mp4").max(axis=-1) > 10
    change = np.abs(fake - original).mean(axis=-1)
    near = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((9, 9))) for m in mask]) > 0
    assert change[mask].mean() > 2 * change[~near].mean()


@pytest.mark.parametrize("method", [*METHODS.values(), face_swap])
def test_nothing_changes_outside_the_mask(method: Callable[[Take, Take], Manipulation]) -> None:
    target = take(0)
    manipulate = method(target, take(1))
    for t in range(FRAMES):
        frame = target.frame(t)
        fake, mask = manipulate(frame, t)
        inside = mask > 0
        assert 0.01 < inside.mean() < 0.3
        assert mask[inside].min() >= MASK_RANGE[0]
        np.testing.assert_array_equal(fake[~inside], frame[~inside])
        assert np.abs(fake.astype(int) - frame)[inside].mean() > 3


def test_masks_are_of_each_methods_kind() -> None:
    target, source = take(0), take(1)
    frame = target.frame(0)
    swap, reenacted, mouth = (method(target, source)(frame, 0)[1] for method in (deepfakes, face2face, neural_textures))
    assert set(np.unique(swap)) == {0, 255}
    assert len(np.unique(reenacted)) > 20  # a render in grey
    assert (mouth > 0).sum() < 0.6 * (reenacted > 0).sum()


def test_methods_differ() -> None:
    target, source = take(0), take(1)
    frame = target.frame(0)
    fakes = [method(target, source)(frame, 0)[0].astype(int) for method in (*METHODS.values(), face_swap)]
    for i, one in enumerate(fakes):
        for other in fakes[i + 1 :]:
            assert np.abs(one - other).max() > 20


def test_reenactment_takes_the_sources_expression() -> None:
    """Two sources that differ in their expressions alone."""
    target, source = take(0), take(1)
    frame = target.frame(0)
    calm, happy = (
        neural_textures(target, _with_expression(source, EXPRESSIONS[name]))(frame, 0) for name in ("Neutral", "Happy")
    )
    np.testing.assert_array_equal(calm[1], happy[1])
    assert np.abs(calm[0].astype(int) - happy[0])[calm[1] > 0].mean() > 2


def _with_expression(source: Take, expression: Expression) -> Take:
    source.expressions = [expression] * FRAMES
    return source


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        write_target(tmp_path / name, Plan(seed, 2, 96, 96), "000", "001")
    for path in sorted((tmp_path / "one").rglob("*.mp4")):
        relative = path.relative_to(tmp_path / "one")
        assert path.read_bytes() == (tmp_path / "again" / relative).read_bytes()
        assert (read_video(path) != read_video(tmp_path / "other" / relative)).any()


def test_same_seed_same_bytes_of_dfdc(tmp_path: Path) -> None:
    splits = split_pairs(1, 1, 1)
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        dfdc.write_metadata(tmp_path / name, seed, splits)
        dfdc.write_target(tmp_path / name / dfdc.PARTS["train"], Plan(seed, 2, 96, 96), "000", "001")
    one, again, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "again", "other")
    )
    assert one == again and len(one) == 3 + 3
    assert not set(one.values()) & set(other.values())
    assert {path.suffix for path in set(one) & set(other)} == {".json"}  # other names, too


def test_a_frame_depends_on_its_number_alone() -> None:
    in_order, directly = take(3), take(3)
    frames = [in_order.frame(t) for t in range(FRAMES)]
    np.testing.assert_array_equal(directly.frame(2), frames[2])
    assert (take(4).frame(2) != frames[2]).any()


def test_originals_carry_noise_that_a_render_does_not() -> None:
    """The trace a detector is to find: the fine residual is weaker in a Face2Face face."""
    target = take(0, frames=1)
    frame = target.frame(0)
    fake, mask = face2face(target, take(1, frames=1))(frame, 0)
    core = cv2.erode(mask, np.ones((7, 7))) > 0

    def residual(image: np.ndarray) -> float:
        grey = image.mean(axis=-1)
        # The median leaves out eyes and mouth, which have strong edges in both.
        return float(np.median(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2))[core]))

    assert residual(fake) < 0.7 * residual(frame)


def test_a_face_detector_finds_the_faces() -> None:
    from facenet_pytorch import MTCNN

    detector = MTCNN(select_largest=False)
    for number in (0, 2, 3):
        shot = Take(1, number, 1, 320, 240)
        boxes, scores = detector.detect(shot.frame(0))
        assert scores[0] > 0.9
        x0, y0, x1, y1 = boxes[0]
        assert x0 < shot.poses[0].x < x1 and y0 < shot.poses[0].y < y1
        assert 80 < y1 - y0 < 150


@pytest.mark.parametrize(("train", "val", "test"), [(1, 1, 1), (3, 2, 1)])
def test_splits_share_no_one(train: int, val: int, test: int) -> None:
    splits = split_pairs(train, val, test)
    assert [len(pairs) for pairs in splits.values()] == [train, val, test]
    ids = [i for pairs in splits.values() for pair in pairs for i in pair]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("name", "opens_mouth", "opens_eyes"), [("Surprise", True, True), ("Happy", True, False), ("Sad", False, False)]
)
def test_expressions_move_the_landmarks(name: str, opens_mouth: bool, opens_eyes: bool) -> None:
    identity = random_identity(np.random.default_rng(0))
    neutral, shown = (landmarks(identity, EXPRESSIONS[e]) for e in ("Neutral", name))
    assert neutral.shape == (68, 2)
    opening = [points[INNER_LIPS][6, 1] - points[INNER_LIPS][2, 1] for points in (neutral, shown)]
    eye = [np.ptp(points[EYES[0], 1]) for points in (neutral, shown)]
    assert (opening[1] > opening[0] + 0.05) == opens_mouth
    assert (eye[1] > eye[0]) == opens_eyes


def test_expressions_change_smoothly() -> None:
    path = np.array(expression_path(np.random.default_rng(1), 200))
    without_blinks = np.delete(path, 2, axis=1)
    assert np.abs(np.diff(without_blinks, axis=0)).max() < 0.5
    assert np.ptp(path, axis=0).min() > 0.3  # every muscle is used
    assert path[:, 3].min() >= 0 and path[:, 2].min() >= -1


def test_affectnet_layout(sample: tuple[Path, Path]) -> None:
    for name, count in (("train_set", 16), ("val_set", 8)):
        images = sorted((sample[1] / name / "images").glob("*.jpg"))
        assert len(images) == count
        labels = []
        for path in images:
            image = cv2.imread(str(path))
            assert image is not None and image.shape == (SIDE, SIDE, 3)
            note = {k: np.load(sample[1] / name / "annotations" / f"{path.stem}_{k}.npy") for k in ("exp", "lnd")}
            labels.append(int(note["exp"].item()))
            assert note["lnd"].shape == (136,) and note["lnd"].min() > -0.1 * SIDE and note["lnd"].max() < 1.1 * SIDE
        assert sorted(labels) == sorted(list(range(8)) * (count // 8))


def test_affectnet_is_seeded(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_affectnet(tmp_path / name, seed, 1, 1)
    first = "train_set/images/3.jpg"
    assert (tmp_path / "one" / first).read_bytes() == (tmp_path / "again" / first).read_bytes()
    assert (tmp_path / "one" / first).read_bytes() != (tmp_path / "other" / first).read_bytes()


def test_drawn_landmarks_lie_on_the_drawing() -> None:
    """An open mouth is darker than the skin around it, where the landmarks say it is."""
    for seed in range(5):
        image, points = draw_face(np.random.default_rng(seed), list(EXPRESSIONS).index("Surprise"))
        lips = points[INNER_LIPS]
        x, y = np.round(lips[[2, 6, 6]].mean(axis=0)).astype(int)
        nose_x, nose_y = np.round(points[28]).astype(int)
        assert image[y, x].mean() < 0.8 * image[nose_y, nose_x].mean()


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    """Whatever lies in memory: x264's macroblock tree gave other bytes every few runs, so it is off."""
    drawn = Take(0, 2, 12, 320, 240)
    frames = [drawn.frame(t) for t in range(12)]
    rng = np.random.default_rng(0)
    written = set()
    for i in range(20):
        dirt = [rng.integers(0, 255, (rng.integers(100, 400), 320, 3), dtype=np.uint8) for _ in range(i % 9)]
        with VideoWriter(tmp_path / f"{i}.mp4", 320, 240, 23) as video:
            for frame in frames:
                video.write(frame)
        del dirt
        written.add((tmp_path / f"{i}.mp4").read_bytes())
    assert len(written) == 1
