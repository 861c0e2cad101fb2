"""The variants: which network a config means."""

from typing import Annotated

from pydantic import Field

from emd_core.models.detector import Detector
from emd_core.models.emd import EMDConfig, build_emd
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.esr import ESR

NetworkConfig = Annotated[EMDConfig | MultiTaskConfig, Field(discriminator="kind")]


def build_detector(config: EMDConfig | MultiTaskConfig, fer: ESR | None) -> Detector:
    """The network with random weights; `fer` is given if, and only if, the config asks for expression features."""
    if config.expression != (fer is not None):
        raise ValueError(f"network.expression is {config.expression}, but fer is {type(fer).__name__}")
    return build_emd(config, fer) if isinstance(config, EMDConfig) else MultiTask(config, fer)


def network_name(config: NetworkConfig) -> str:
    """What the paper's tables call it, and its size: "emd 299 px", "xception 299 px", "multitask 256 px"."""
    names = {("emd", False): "xception", ("multitask", True): "multitask-fer"}
    return f"{names.get((config.kind, config.expression), config.kind)} {config.size} px"
