"""The detector as an MLflow model ("models from code"): pictures in, a table of scores and masks out.

MLflow runs this file when it logs and when it loads the model; its artifacts are the checkpoint, its metrics and the
face detector's weights.
"""

import base64
import json
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from numpy.typing import NDArray

from emd_core.detection.inference import predict
from emd_core.faces.boxes import Square, choose_face, crop_square, cut
from emd_core.models.parts.precision import Number
from emd_core.storage.pictures import decode
from emd_core.verdicts.judge import Judge
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.verdict import Model, Software

CHECKPOINT, FACES = "checkpoint", "faces"  # names of artifacts
METRICS = "metrics.json"  # file of the artifact "metrics": what evaluate found
BATCH = 16  # crops per pass; memory only
CROP_SCALE = 1.3  # of FaceForensics++'s rule, as in training
MIN_FACE = 40  # px
LOOKING = Looking(
    frames=16, every_s=0.5, min_face=MIN_FACE, detect_side=640, threshold=0.9, scale=CROP_SCALE, max_faces=10, batch=2
)
MODEL = Model(name="served model", reference="", digest="", network="", decision="", data="", originals=None, limits=[])
MAGIC = (b"\x89PNG", b"\xff\xd8")  # how PNG and JPEG files begin

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]),
    outputs=Schema(
        [
            ColSpec(DataType.double, "score", required=False),
            ColSpec(DataType.string, "mask", required=False),
            *(ColSpec(DataType.long, name, required=False) for name in Square._fields),
            ColSpec(DataType.string, "status"),
            ColSpec(DataType.string, "reason"),
            ColSpec(DataType.string, "verdict", required=False),
        ]
    ),
    params=ParamSchema(
        [ParamSpec("detect_faces", DataType.boolean, False), ParamSpec("verdict", DataType.boolean, False)]
    ),
)


class Detector(PythonModel):
    """Scores pictures, one row each; a picture that cannot be scored gets a row that says why."""

    def load_context(self, context: Any) -> None:
        checkpoint, faces = Path(context.artifacts[CHECKPOINT]), Path(context.artifacts[FACES])
        self.precision = judged_in(Path(context.artifacts["metrics"]))
        about = MODEL.model_copy(update={"digest": sha256(checkpoint.read_bytes()).hexdigest()[:12]})
        software = Software(emd="", commit="", torch=torch.__version__)
        self.judge = Judge(checkpoint, LOOKING, about, software, precision=self.precision, faces=faces)
        self.detector, self.faces = self.judge.network.detector, self.judge.faces

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score the pictures of column `image`: PNG or JPEG files as bytes (over REST, base64).

        Each is a square face crop as in training, or, with params {"detect_faces": true}, a whole frame whose
        largest face is found and cropped first. With {"verdict": true} each is a whole video or picture, of which all
        faces are followed and judged.

        Raises MlflowException, which the scoring server answers with status 400, where the column holds anything else.

        Returns:
            score: probability in [0, 1] that the face is manipulated.
            mask: the crop's manipulated pixels, an 8-bit grey PNG in base64, 255 = surely manipulated; null where the
                network does not localise.
            x, y, side: the crop in pixels of the picture.
            status: "ok", "no_face" or "unreadable"; where it is not ok, the columns above are null and
                reason says why.
            verdict: null, or with {"verdict": true} verdict.json as text; its sentence is the reason then, its score
                the score, and mask, x, y and side are null.
        """
        if (params or {}).get("verdict"):
            rows = [self._verdict(content(file, row)) for row, file in enumerate(model_input["image"])]
            return as_table(rows)
        rows = []
        crops: dict[int, NDArray[np.uint8]] = {}  # row -> crop
        for picture in read_column(model_input["image"]):
            square, reason = None, "not a whole PNG or JPEG picture"
            if (image := decode(picture)) is not None:
                square = self._square(image, find=bool((params or {}).get("detect_faces")))
                reason = "no face found"
            if image is not None and square is not None:
                crops[len(rows)] = cut(image, square, self.detector.side)
                rows.append({**square._asdict(), "status": "ok", "reason": ""})
            else:
                rows.append({"status": "unreadable" if image is None else "no_face", "reason": reason})
        for row, score, mask in self._score(crops):
            rows[row] |= {"score": score, "mask": mask}
        return as_table(rows)

    def _verdict(self, file: bytes) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(file)
            verdict = self.judge(path).verdict
        status = "ok" if verdict.status == "judged" else verdict.status
        said = {"status": status, "reason": verdict.sentence, "score": verdict.score}
        return said | {"verdict": verdict.model_dump_json()}

    def _square(self, image: NDArray[np.uint8], find: bool) -> Square | None:
        """The part of an HWC picture to score: its largest face, or its centre square; None where no face is."""
        height, width = image.shape[:2]
        if not find:
            side = min(height, width)
            return Square((width - side) // 2, (height - side) // 2, side)
        (face,) = choose_face(self.faces.detect([image], MIN_FACE))
        return None if face is None else crop_square(face, width, height, CROP_SCALE)

    def _score(self, crops: dict[int, NDArray[np.uint8]]) -> list[tuple[int, float, str | None]]:
        rows, results = list(crops), []
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            image_B3HW = torch.from_numpy(np.stack([crops[row] for row in batch])).permute(0, 3, 1, 2)
            scores, masks_BHW = predict(self.detector, image_B3HW, self.precision)
            masks = [None] * len(batch) if masks_BHW is None else [encode(mask) for mask in masks_BHW]
            results += [(row, float(score), mask) for row, score, mask in zip(batch, scores, masks, strict=True)]
        return results


def judged_in(metrics: Path) -> Number:
    """The number format in which the model was evaluated, so that it is served as it was judged."""
    precision: Number = json.loads(metrics.read_text()).get("precision", "fp32")  # all were served so before
    return precision


def as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows with types that know null: NaN is no JSON, and most clients refuse it."""
    table = pd.DataFrame(rows, columns=SIGNATURE.outputs.input_names())
    table = table.astype({"score": "Float64", **dict.fromkeys(Square._fields, "Int64")})
    texts = {name: table[name].astype(object).where(table[name].notna(), None) for name in ("mask", "verdict")}
    return table.assign(**texts)


def content(file: Any, row: int) -> bytes:
    """A whole file's bytes; base64 where MLflow has not decoded it."""
    if not isinstance(file, bytes | str):
        raise MlflowException.invalid_parameter_value(
            f"column image holds {type(file).__name__} in row {row}; it must hold files, as bytes or in base64."
        )
    try:
        return base64.b64decode(file, validate=True)
    except ValueError:
        return file if isinstance(file, bytes) else b""


def read_column(pictures: pd.Series) -> list[bytes]:
    """Files as bytes. MLflow decodes base64 itself in data frames, but not in `instances`, `inputs` and CSV."""
    files = []
    for row, picture in enumerate(pictures):
        if not isinstance(picture, bytes | str):
            raise MlflowException.invalid_parameter_value(
                f"column image holds {type(picture).__name__} in row {row}; "
                "it must hold PNG or JPEG files, as bytes or in base64."
            )
        files.append(picture if isinstance(picture, bytes) and picture.startswith(MAGIC) else _from_base64(picture))
    return files


def _from_base64(text: bytes | str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""  # a row that cannot be read, like other bytes that are no picture


def encode(mask_HW: NDArray[np.floating[Any]]) -> str:
    """Mask scores in [0, 1] -> 8-bit grey PNG in base64."""
    _, png = cv2.imencode(".png", np.rint(mask_HW * 255).astype(np.uint8))
    return base64.b64encode(png.tobytes()).decode()


mlflow.models.set_model(Detector())
