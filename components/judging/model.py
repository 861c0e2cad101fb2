"""The model that `--model` means: a folder on disk, or a version in the registry, fetched."""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from components.registry.reference import REFERENCE, find
from components.registry.versions import DIGEST
from components.tracking.provenance import commit
from emd_core.config import read_params
from emd_core.errors import UserError
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import Precision
from emd_core.reading import read_json
from emd_core.verdicts.judge import Judge
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.verdict import Model, Software

SETTLED = "model"  # by which settle tells Kubeflow, and so detect, what is meant
FACES = "mtcnn.safetensors"  # the face detector's weights, in a registered model


class Found(NamedTuple):
    """A model at hand; all of it can be sent to another process."""

    checkpoint: Path
    faces: Path | None  # weights of the face detector; None: the installed package's
    precision: Precision
    about: Model


def identify(reference: str) -> str:
    """The address of what `reference` names now, which an alias that moves does not change. Nothing is fetched."""
    if is_folder(reference):
        return str(Path(reference).absolute())
    found = find(reference)
    return f"models:/{found.name}/{found.version}"


def find_model(reference: str, into: Path) -> Found:
    """The model; one of the registry is fetched into the folder `into`.

    Args:
        reference: a folder that train_emd wrote, or that a registered model was downloaded to, or an address in the
            registry such as models:/emd-detector@champion.

    Raises:
        UserError: there is no such model, or the registry does not answer.
    """
    if Path(reference).is_file():  # what settle wrote
        reference = read_json(Path(reference))[SETTLED]
    if is_folder(reference):
        folder = Path(reference)
        return found_in(
            folder, Model.model_validate({**UNKNOWN, "name": folder.name, "reference": reference, "digest": ""})
        )
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    found = find(reference)
    fetched = mlflow.artifacts.download_artifacts(f"models:/{found.name}/{found.version}", dst_path=str(into))
    known = {"decision": found.tags.get("decision", ""), "data": found.tags.get("data.digest", "")}
    name = f"{found.name} version {found.version}"
    about = {**UNKNOWN, **known, "name": name, "reference": reference, "digest": found.tags.get(DIGEST, "")}
    return found_in(Path(fetched), Model.model_validate(about))


UNKNOWN: dict[str, Any] = {"network": "", "decision": "", "data": "", "originals": None, "limits": []}


def is_folder(reference: str) -> bool:
    """Whether a folder is meant. UserError where it is neither one nor an address."""
    if Path(reference).is_dir():
        return True
    if REFERENCE.fullmatch(reference) is None:
        raise UserError(
            f"{reference} is no folder and no address of a registered model; name a folder that train_emd wrote, or "
            "an address such as models:/emd-detector@champion."
        )
    return False


def found_in(folder: Path, about: Model) -> Found:
    """The parts of a model's folder, that of a training or of a registered model."""
    files = folder / "artifacts" if (folder / "artifacts").is_dir() else folder
    checkpoint, faces, metrics = files / CHECKPOINT, files / FACES, files / "metrics.json"
    if not checkpoint.is_file():
        raise UserError(f"{folder} holds no {CHECKPOINT}; name a folder that train_emd wrote, or a registered model.")
    if not about.digest:
        about = about.model_copy(update={"digest": hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]})
    # A training's own metrics.json says nothing of it.
    judged_in: Precision = read_json(metrics).get("precision", "auto") if metrics.is_file() else "auto"
    return Found(checkpoint, faces if faces.is_file() else None, judged_in, about)


def load_judge(reference: str, params: Path = Path("params.yaml")) -> Judge:
    """A model in this process, looking at files as section detect of the params file says; see `find_model`."""
    given = read_params(params).get("detect", {})
    with TemporaryDirectory() as folder:
        found = find_model(reference, Path(folder))
        looking = Looking(**{name: given[name] for name in Looking.model_fields})
        return Judge(found.checkpoint, looking, found.about, software(), precision=found.precision, faces=found.faces)


def software() -> Software:
    return Software(emd=_installed("emd"), commit=commit(), torch=_installed("torch"))


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # an image holds the code alone
        return ""
