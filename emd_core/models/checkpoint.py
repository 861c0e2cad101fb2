"""Checkpoints of detectors: the config names the variant, and the file needs nothing beside it."""

from pathlib import Path

from pydantic import TypeAdapter

from emd_core.models.build import NetworkConfig, build_detector
from emd_core.models.detector import Detector
from emd_core.models.parts.checkpoint import TOLD, read_network, save_network
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.reading import reading


def save_detector(path: Path, model: Detector) -> None:
    """The expression network's weights are part of the file: it needs nothing beside it."""
    fer = None if model.fer is None else model.fer.config.model_dump(mode="json")
    save_network(path, "detector", model, {"network": model.config.model_dump(mode="json"), "fer": fer})


def load_detector(path: Path) -> Detector:
    config, weights = read_network(path, "detector")
    with reading(path, *TOLD):
        fer = None if config["fer"] is None else ESR(ESRConfig.model_validate(config["fer"]))
        model = build_detector(TypeAdapter(NetworkConfig).validate_python(config["network"]), fer)
        model.load_state_dict(weights)
    return model.eval()
