"""State dicts of other people's networks: read without running code, loaded whole or refused."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from emd_core.errors import UserError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote, on the CPU, by name."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a state-dict file that torch.save wrote.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a broken file fails as a zip, as a pickle or in any opcode of it
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}); it must be a whole state-dict file that "
            "torch.save wrote, so copy it again."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} is not a state dict of tensors; save the network's state_dict() alone.")
    return {str(name): tensor for name, tensor in state.items()}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` if its names and shapes are the module's, all of them and no others; `source` names it in errors."""
    own = module.state_dict()
    fault = (
        next((f"lacks '{k}'" for k in own if k not in state), None)
        or next((f"holds '{k}', which the network lacks" for k in state if k not in own), None)
        or next((_misfit(k, state[k], own[k]) for k in own if state[k].shape != own[k].shape), None)
    )
    if fault:
        raise UserError(f"{source} {fault}; it must hold exactly the weights of {type(module).__name__}.")
    module.load_state_dict(state)


def _misfit(name: str, given: Tensor, own: Tensor) -> str:
    return f"holds '{name}' of shape {tuple(given.shape)} where the network has {tuple(own.shape)}"
