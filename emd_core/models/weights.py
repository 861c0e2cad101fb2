"""Published weights: read safely, loaded exactly."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from emd_core.errors import UserError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a state-dict file; nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give the path of a state-dict file.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise UserError(f"{path} is no state dict that can be read safely; give a whole file of tensors.") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} is no state dict; it must map layer names to tensors and hold nothing else.")
    return dict(state)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights whose keys and shapes are exactly the module's."""
    raise NotImplementedError
