"""The kinds of detector as the profiles in params/ make them, and training them for a moment."""

from pathlib import Path

from emd_core.config import read_params, section
from emd_core.detection.training import TrainEmd
from tests.house.contract import ROOT

DATA = "dfdc"  # params/sample-dfdc.yaml is about data, not about a network
NAMES = (path.stem.removeprefix("sample-") for path in sorted((ROOT / "params").glob("sample-*.yaml")))
PROFILES = [name for name in NAMES if name != DATA]


def training_of(name: str, scale: str = "sample") -> TrainEmd:
    path: Path = ROOT / "params" / f"{scale}-{name}.yaml"
    return section(read_params(path), "train_emd", TrainEmd, where=str(path))
