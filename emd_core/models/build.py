"""The kinds of detector: which network a config means."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from emd_core.models.baselines.bayar import Bayar
from emd_core.models.baselines.capsule import CapsuleForensics
from emd_core.models.baselines.cozzolino import Cozzolino
from emd_core.models.baselines.dcnn import DCNN
from emd_core.models.baselines.facexray import FaceXray
from emd_core.models.baselines.forensictransfer import ForensicTransfer
from emd_core.models.baselines.lae import LAE
from emd_core.models.baselines.meso import MesoNet
from emd_core.models.baselines.rahmouni import Rahmouni
from emd_core.models.baselines.steganalysis import Steganalysis
from emd_core.models.baselines.twostream import TwoStream
from emd_core.models.detector import Detector, Network
from emd_core.models.emd import EMD
from emd_core.models.multitask import MultiTask
from emd_core.models.parts.esr import ESR

DETECTORS: tuple[type[Detector], ...] = (
    EMD,
    MultiTask,
    Bayar,
    CapsuleForensics,
    Cozzolino,
    DCNN,
    FaceXray,
    ForensicTransfer,
    LAE,
    MesoNet,
    Rahmouni,
    Steganalysis,
    TwoStream,
)

if TYPE_CHECKING:
    NetworkConfig = Network
else:
    NetworkConfig = Annotated[Union[tuple(d.config_type for d in DETECTORS)], Field(discriminator="kind")]  # noqa: UP007


def detector_of(config: Network) -> type[Detector]:
    """The kind of detector that a config is of."""
    return next(d for d in DETECTORS if isinstance(config, d.config_type))


def build_detector(config: Network, fer: ESR | None) -> Detector:
    """The network with random weights; `fer` is given if, and only if, the config asks for expression features."""
    if config.with_expression != (fer is not None):
        raise ValueError(f"network.expression is {config.with_expression}, but fer is {type(fer).__name__}")
    return detector_of(config)(config, fer)


def network_name(config: Network) -> str:
    """What the paper's tables call it, and its size: "emd 299 px", "xception 299 px", "multitask 256 px"."""
    names = {("emd", False): "xception", ("multitask", True): "multitask-fer"}
    return f"{names.get((config.kind, config.with_expression), config.kind)} {config.size} px"
