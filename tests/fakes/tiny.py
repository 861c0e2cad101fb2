"""Tiny real things for tests: drawn faces that MTCNN finds, H.264 videos, and FaceForensics++ trees of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.crop_faces import CropFaces, crop_faces
from components.extract_frames import ExtractFrames, extract_frames
from components.generate_masks import GenerateMasks, generate_masks
from components.ingest import Ingest, ingest
from emd_core.storage.manifest import FACES, FRAMES, MASKS, VIDEOS, read_manifest

Image = NDArray[np.uint8]
HEIGHT, WIDTH = 96, 128  # px
FACE = 60  # px, height of a drawn face

STAGES = {"ingest": VIDEOS, "extract_frames": FRAMES, "crop_faces": FACES, "generate_masks": MASKS}
INGEST = Ingest(
    dataset="faceforensics", methods=["Face2Face"], qualities=["c23"], max_bad_share=0.5, require_splits=[], workers=1
)
EXTRACT = ExtractFrames(train=3, val=3, test=3, max_bad_share=0.5, workers=1, shard="1/1")
CROP = CropFaces(
    detector="mtcnn",
    weights=None,
    size=64,
    scale=1.3,
    min_face=20,
    detect_side=128,
    detect_every=1,
    threshold=0.9,
    batch=4,
    max_bad_share=0.5,
    workers=1,
)
MASK = GenerateMasks(source="video", threshold=10, min_difference=10, max_bad_share=1, workers=1)


def draw_face(image: Image, x: int, y: int, height: int = FACE, mouth: float = 0.045) -> None:
    """Paint a face of `height` px around (x, y) into an HWC uint8 RGB image; `mouth` is its half opening."""

    def ellipse(dx: float, dy: float, a: float, b: float, colour: tuple[int, int, int], start: int = 0) -> None:
        centre = (round(x + dx * height), round(y + dy * height))
        axes = (max(1, round(a * height)), max(1, round(b * height)))
        cv2.ellipse(image, centre, axes, 0, start, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, -0.12, 0.42, 0.5, (60, 40, 30))  # hair
    ellipse(0, 0.02, 0.36, 0.48, (205, 160, 130))
    ellipse(0.12, 0.05, 0.2, 0.42, (190, 145, 118))  # the cheek in the shade
    for side in (-1, 1):
        ellipse(side * 0.15, -0.05, 0.075, 0.035, (240, 240, 240))
        ellipse(side * 0.15, -0.05, 0.03, 0.035, (40, 30, 25))
        ellipse(side * 0.15, -0.12, 0.09, 0.025, (70, 45, 35), start=180)
    ellipse(0, 0.1, 0.045, 0.03, (165, 115, 95))
    ellipse(0, 0.02, 0.02, 0.1, (215, 172, 145))
    ellipse(0, 0.26, 0.13, mouth, (165, 70, 70))


def face_frames(n: int, start: int = 45, mouth: float = 0.045) -> list[Image]:
    """`n` frames of a face that moves to the right by two pixels a frame."""
    frames = []
    for i in range(n):
        frame = np.full((HEIGHT, WIDTH, 3), 110, dtype=np.uint8)
        draw_face(frame, start + 2 * i, HEIGHT // 2, mouth=mouth)
        frames.append(np.asarray(cv2.GaussianBlur(frame, (0, 0), 0.8), dtype=np.uint8))
    return frames


def mouth_masks(n: int, start: int = 45, grey: int = 90) -> list[Image]:
    """Frames of a mask video that mark the mouth of `face_frames`, in grey as the dataset's renders."""
    frames = []
    for i in range(n):
        frame = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        cv2.circle(frame, (start + 2 * i, HEIGHT // 2 + round(0.26 * FACE)), 12, (grey,) * 3, -1)
        frames.append(frame)
    return frames


def flat_frames(n: int, level: int = 120, height: int = HEIGHT, width: int = WIDTH) -> list[Image]:
    """Frames of one grey level."""
    return [np.full((height, width, 3), level, dtype=np.uint8) for _ in range(n)]


def write_mp4(
    path: Path,
    frames: Sequence[Image],
    *,
    crf: int = 23,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    pix_fmt: str = "yuv444p",
    header_first: bool = False,
    colours: tuple[int, int] = (2, 0),
) -> Path:
    """Encode HWC uint8 RGB frames, with x264 unless another codec is named.

    Args:
        options: of the encoder.
        header_first: put the index before the frames, so that a file that is cut off can still be opened.
        colours: FFmpeg's numbers of the colour space and range, e.g. (1, 1) = BT.709, limited.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = {"movflags": "faststart"} if header_first else {}
    with av.open(str(path), "w", options=flags) as container:
        settings = {"crf": str(crf), "preset": "veryfast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=25, options=settings | dict(options or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = colours
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def cut_off(path: Path, share: float = 0.6) -> Path:
    """Leave only the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def write_splits(root: Path, **pairs: list[tuple[str, str]]) -> None:
    """Write splits/{train,val,test}.json; a split that is not given is empty."""
    (root / "splits").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        (root / "splits" / f"{split}.json").write_text(json.dumps(pairs.get(split, [])))


def original_path(root: Path, target: str, quality: str = "c23") -> Path:
    return root / "original_sequences/youtube" / quality / "videos" / f"{target}.mp4"


def fake_path(root: Path, name: str, quality: str = "c23", method: str = "Face2Face") -> Path:
    return root / "manipulated_sequences" / method / quality / "videos" / f"{name}.mp4"


def mask_path(root: Path, name: str, method: str = "Face2Face") -> Path:
    return root / "manipulated_sequences" / method / "masks/videos" / f"{name}.mp4"


def write_tree(root: Path, n: int = 8) -> Path:
    """A dataset of one pair, 000 and 001 in train, one quality, Face2Face only; its fakes open their mouth wider."""
    write_splits(root, train=[("000", "001")])
    for target, source, start in (("000", "001", 45), ("001", "000", 55)):
        name = f"{target}_{source}"
        write_mp4(original_path(root, target), face_frames(n, start))
        write_mp4(fake_path(root, name), face_frames(n, start, mouth=0.12))
        write_mp4(mask_path(root, name), mouth_masks(n, start), crf=10)
    return root


def make_faces(dataset: Path, out: Path) -> Path:
    """Run the stages up to the crops on a dataset; the folder that holds videos, frames and faces."""
    ingest(INGEST, dataset=dataset, videos=out / "videos")
    extract_frames(EXTRACT, dataset=dataset, videos=out / "videos", frames=out / "frames")
    crop_faces(CROP, dataset=dataset, frames=out / "frames", faces=out / "faces")
    return out


def run_stages(
    dataset: Path, out: Path, *, after: Mapping[str, Callable[[], None]] | None = None, **cropping: object
) -> dict[str, pd.DataFrame]:
    """All stages up to the masks, whatever share of the videos is bad; the table of each.

    Args:
        out: folder that holds the stages' folders, by the stages' names.
        after: what to do after a stage.
        cropping: settings of crop_faces to change.
    """
    lenient: dict[str, object] = {"max_bad_share": 1.0}
    listed, picked, cropped, masked = (out / name for name in STAGES)
    stages = [
        lambda: ingest(INGEST.model_copy(update=lenient), dataset=dataset, videos=listed),
        lambda: extract_frames(EXTRACT.model_copy(update=lenient), dataset=dataset, videos=listed, frames=picked),
        lambda: crop_faces(CROP.model_copy(update=lenient | cropping), dataset=dataset, frames=picked, faces=cropped),
        lambda: generate_masks(MASK, dataset=dataset, faces=cropped, masks=masked),
    ]
    for name, stage in zip(STAGES, stages, strict=True):
        stage()
        if after and name in after:
            after[name]()
    return {name: read_manifest(out / name, schema).table for name, schema in STAGES.items()}
