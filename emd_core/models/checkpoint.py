"""Checkpoints of detectors: the config names the variant, and the file needs nothing beside it."""

from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from emd_core.models.build import NetworkConfig, build_detector
from emd_core.models.detector import Detector
from emd_core.models.parts.checkpoint import KNOWN, read_network, save_network
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.models.rule import VerdictRule
from emd_core.reading import reading


class Calibration(NamedTuple):
    """Fitted to the network's scores of its own val split."""

    temperature: float  # logits are divided by it; above 1: the network is too sure of itself
    threshold: float  # of the score as the network gives it, not of the calibrated one


def save_detector(
    path: Path,
    model: Detector,
    calibration: Calibration | None = None,
    rule: VerdictRule | None = None,
    learned: list[str] | None = None,
) -> None:
    """The expression network's weights are part of the file: it needs nothing beside it.

    `learned`: the methods whose fakes it was trained on; None: nobody knows.
    """
    config = {"network": model.config.model_dump(mode="json")}
    config["fer"] = None if model.fer is None else model.fer.config.model_dump(mode="json")
    config["calibration"] = None if calibration is None else calibration._asdict()
    config["rule"] = None if rule is None else rule.model_dump(mode="json")
    config["learned"] = learned
    save_network(path, "detector", model, config)


def load_detector(path: Path) -> Detector:
    config, weights = read_network(path, "detector")
    with reading(path, *KNOWN):
        fer = None if config["fer"] is None else ESR(ESRConfig.model_validate(config["fer"]))
        model = build_detector(TypeAdapter(NetworkConfig).validate_python(config["network"]), fer)
        model.load_state_dict(weights)
    return model.eval()


def load_calibration(path: Path) -> Calibration | None:
    """None where the network has none: no val split with both classes, or a file of an earlier version."""
    fitted = read_network(path, "detector")[0].get("calibration")
    with reading(path, *KNOWN):
        return None if fitted is None else Calibration(**fitted)


def load_rule(path: Path) -> VerdictRule | None:
    """None where nothing was fitted: no val split with both classes, or a file of an earlier version."""
    fitted = read_network(path, "detector")[0].get("rule")
    with reading(path, *KNOWN):
        return None if fitted is None else VerdictRule.model_validate(fitted)


def load_learned(path: Path) -> list[str] | None:
    """None where nobody knows: published weights, or a file of an earlier version."""
    learned = read_network(path, "detector")[0].get("learned")
    with reading(path, *KNOWN):
        return None if learned is None else TypeAdapter(list[str]).validate_python(learned)
