"""Put a checkpoint into the registry, as a pyfunc model with all that is known about its making."""

from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

import emd_core
from emd_core.faces.mtcnn_networks import save_mtcnn
from emd_core.models.parts.checkpoint import CHECKPOINT

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# What judging pictures and videos imports. facenet-pytorch asks for versions from before torch 2.3, so no resolver puts
# it beside these; only the weights of its face detector are needed, and they are a file of the model.
REQUIREMENTS = (
    "av mlflow numpy opencv-python-headless pandas pillow pyarrow pydantic pyyaml safetensors scipy "
    "segmentation-models-pytorch timm torch torchvision tqdm"
)


def register(
    name: str, model: Path, evaluation: Path, logged_model: str | None, tags: dict[str, str]
) -> "ModelVersion":
    """Log the checkpoint as a pyfunc model and register it; the new version.

    logged_model: id of the LoggedModel that training made for this checkpoint, to be filled; None makes another.
    """
    import mlflow

    from components.registry import detector_model

    with TemporaryDirectory() as folder:
        faces = Path(folder) / "mtcnn.safetensors"
        save_mtcnn(faces)
        info = mlflow.pyfunc.log_model(
            name="detector",
            model_id=logged_model,
            python_model=detector_model.__file__,
            # Files of artifacts/ in the model; the decision joins them once it is made.
            artifacts={
                detector_model.CHECKPOINT: str(model / CHECKPOINT),
                "metrics": str(evaluation / "metrics.json"),
                detector_model.FACES: str(faces),
            },
            code_paths=[str(Path(emd_core.__file__).parent)],
            signature=detector_model.SIGNATURE,
            input_example=(example(), {"detect_faces": False}),
            pip_requirements=[f"{package}=={installed(package).split('+')[0]}" for package in REQUIREMENTS.split()],
        )
    return mlflow.register_model(info.model_uri, name, tags=tags)


def example() -> pd.DataFrame:
    """A picture of coloured ramps, as the model's input: small, and unlike a grey one not the same to every network."""
    y, x = np.indices((64, 64), dtype=np.uint8) * 4
    _, png = cv2.imencode(".png", np.stack([x, y, x ^ y], axis=-1))
    return pd.DataFrame({"image": [png.tobytes()]})
