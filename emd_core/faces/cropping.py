"""One face per video, cut out of its picked frames: the same square from an original and from the fakes made of it."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from emd_core.faces.boxes import Detection, Square, crop_square, resize
from emd_core.faces.crop_figures import perceptual_hash, sharpness
from emd_core.faces.detectors import FaceDetector
from emd_core.faces.search import FaceSearch, FoundFace, find_face
from emd_core.storage.growing import Grown, Row
from emd_core.storage.manifest import NO_FACE, OK, ORIGINAL, UNREADABLE
from emd_core.video.decode import BrokenVideo, PickedFrames
from emd_core.video.rgb import RgbReader

NO_CROP: Row = {"file": "", "row": -1, "crc32": 0, "x": 0, "y": 0, "side": 0, "score": 0.0, "box_from": ""}
NO_CROP |= {"sharpness": 0.0, "phash": 0}
NO_FRAME: Row = {"frame": -1, "width": 0, "height": 0}


class Cropping(FaceSearch):
    size: int = Field(ge=32, le=1024, description="Side of a crop, px.")
    scale: float = Field(ge=1, le=3, description="Side of the square cut, in longer sides of the face box.")


class Reference(NamedTuple):
    """The faces of an original, for its fakes."""

    video: str
    size: tuple[int, int]  # width, height of its frames
    boxes: dict[int, Detection]  # by frame
    others: frozenset[int]  # frames in which only other people are seen
    several: bool  # whether other people are seen at all


NOBODY = Reference("", (0, 0), {}, frozenset(), several=False)
ONLY_OTHERS = "only other people than the video's are seen in this frame"
SEVERAL = "several people are seen in this video; the crops are of the one with the most face over time"


def crop_group(videos: list[Row], *, dataset: Path, detector: FaceDetector, cfg: Cropping) -> Grown:
    """Crop an original and its fakes, all of one quality: their rows of FACES, in the order of `videos` (of FRAMES).

    The box of a fake's frame is the one found on its original: a detector that reacts to the manipulation would
    otherwise cut real and fake faces differently. Where the original has none, the fake's own frames are searched.
    """
    rows: list[Row] = []
    crops: dict[str, list[NDArray[np.uint8]]] = {}
    reference = NOBODY
    for video in videos:
        picked = [int(i) for i in video["frames"]]
        about = {name: value for name, value in video.items() if name not in ("n_frames", "frames")}
        if video["status"] != OK:
            rows.append({**about, **NO_FRAME, **NO_CROP})
            continue
        try:
            frames = PickedFrames(dataset / video["path"], picked)
            known = reference if frames.size == reference.size else NOBODY
            boxes, others, several = [known.boxes.get(i) for i in picked], known.others, known.several
            if not all(box or i in others for box, i in zip(boxes, picked, strict=True)):
                found = search(frames, detector, cfg)
                own = zip(picked, boxes, found.boxes, strict=True)
                boxes = [box or (None if i in others else face) for i, box, face in own]
                others |= {i for i, other in zip(picked, found.others, strict=True) if other}
                several |= found.several
            if video["method"] == ORIGINAL:
                faces = {i: box for i, box in zip(picked, boxes, strict=True) if box}
                reference = known = Reference(video["video"], frames.size, faces, others, several)
            cut = list(cut_faces(frames, boxes, cfg))
        except BrokenVideo as broken:
            rows.append({**about, **NO_FRAME, **NO_CROP, "status": UNREADABLE, "reason": str(broken)})
            continue
        file = f"{video['method']}-{video['quality']}.npy"
        for frame, box, (square, crop) in zip(picked, boxes, cut, strict=True):
            place: Row = {**about, "frame": frame, "width": frames.size[0], "height": frames.size[1]}
            if box is None or crop is None:
                reason = ONLY_OTHERS if frame in others else "no face found in this frame"
                rows.append({**place, **NO_CROP, "status": NO_FACE, "reason": reason})
                continue
            stored = crops.setdefault(file, [])
            place |= {"x": square.x, "y": square.y, "side": square.side}
            place |= {"file": file, "row": len(stored), "crc32": zlib.crc32(crop.data)}
            place |= {"score": box.score, "sharpness": sharpness(crop), "phash": perceptual_hash(crop)}
            place |= {"reason": SEVERAL if several else ""}
            rows.append({**place, "box_from": known.video if frame in known.boxes else video["video"]})
            stored.append(crop)
    return Grown(rows, {file: np.stack(images) for file, images in crops.items()})


def search(frames: PickedFrames, detector: FaceDetector, cfg: FaceSearch) -> FoundFace:
    """The face in each picked frame, in pixels of the frame."""
    width, height = frames.size
    small_width, small_height = cfg.reduced_size(width, height)
    reader = RgbReader()
    images = [reader.reduced(frame, small_width, small_height) for frame in frames]
    across, down = width / small_width, height / small_height
    found = find_face(images, detector, cfg.min_face / across, cfg)
    boxes = [
        face and Detection(face.x1 * across, face.y1 * down, face.x2 * across, face.y2 * down, face.score)
        for face in found.boxes
    ]
    return found._replace(boxes=boxes)


def cut_faces(
    frames: PickedFrames, boxes: Sequence[Detection | None], cfg: Cropping
) -> Iterator[tuple[Square, NDArray[np.uint8] | None]]:
    """The square of each frame and its crop (HWC uint8 RGB); None where there is no box."""
    nothing = Square(0, 0, 0)
    squares = [crop_square(box, *frames.size, cfg.scale) if box else nothing for box in boxes]
    room = max((square.side for square in squares), default=0)
    if not room:
        yield from ((nothing, None) for _ in squares)
        return
    reader = RgbReader()
    for frame, square in zip(frames, squares, strict=True):
        if square is nothing:
            yield square, None
        else:
            yield square, resize(reader.part(frame, *square, room), cfg.size)
