"""The kinds of detector as the profiles in params/ make them."""

from pathlib import Path

from emd_core.config import read_params, section
from emd_core.detection.training import TrainEmd
from tests.house.contract import ROOT

NO_NETWORK = ("dfdc", "experiments")  # profiles about data and about tables


def networks_of(scale: str) -> list[Path]:
    """The profiles of networks, of "sample" or "ffpp"."""
    paths = sorted((ROOT / "params").glob(f"{scale}-*.yaml"))
    return [path for path in paths if path.stem.removeprefix(f"{scale}-") not in NO_NETWORK]


def training_of(name: str, scale: str = "sample") -> TrainEmd:
    path = ROOT / "params" / f"{scale}-{name}.yaml"
    return section(read_params(path), "train_emd", TrainEmd, where=str(path))


PROFILES = [path.stem.removeprefix("sample-") for path in networks_of("sample")]
# One of each kind, in place of those that differ by their expression network alone; it trains in CI's time.
KINDS = [*{training_of(name).network.kind: name for name in reversed(PROFILES)}.values()]
