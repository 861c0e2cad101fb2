"""State dicts of other people's networks: read without running code, loaded whole or refused."""

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emd_core.errors import UserError
from emd_core.reading import reading

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
PREFIXES = ("module.", "backbone.", "model.", "net.", "network.", "_orig_mod.")
COUNTER = "num_batches_tracked"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch.save or safetensors wrote, on the CPU, by name.

    What trainings lay around them is taken off: a dict that holds the state dict, and a prefix that all names share.
    """
    if not path.exists():
        raise UserError(f"{path} is not a file; name a state-dict file that torch.save wrote.")
    with reading(path, "a file of weights that torch.save wrote", "name the whole file, or copy it again"):
        state = _load(path)
    while isinstance(state, Mapping) and (inner := [state[k] for k in WRAPPERS if isinstance(state.get(k), Mapping)]):
        state = inner[0]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} is not a state dict of tensors; save the network's state_dict() alone.")
    named = {str(name): tensor for name, tensor in state.items()}
    while prefix := next((p for p in PREFIXES if named and all(name.startswith(p) for name in named)), ""):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise
        raise UserError(
            f"{path} holds a pickled {found[1]}, and reading that would run code; in the environment that made it "
            "save the weights alone, `torch.save(model.state_dict(), 'weights.pt')`, where `model` is what "
            "`torch.load(file, weights_only=False)` gives, or what that holds as 'model'."
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        raise UserError(
            f"{path} is a TorchScript archive; save its weights alone: "
            "`torch.save(torch.jit.load(file).state_dict(), 'weights.pt')`."
        ) from None


@contextmanager
def downloading(name: str, instead: str = "") -> Iterator[None]:
    """What fails within is the download of ImageNet's weights of `name`; `instead` says what else may be set."""
    try:
        yield
    except Exception as error:  # timm and torchvision raise what their download libraries raise
        raise UserError(
            f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}); set train_emd.weights "
            f"to {instead + ', or to ' if instead else ''}'random'."
        ) from error


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str, network: str = "") -> None:
    """Load `state` if its names and shapes are the module's, all of them and no others.

    `source` and `network` name them in errors; a module is called by its class if not otherwise.
    """
    own = module.state_dict()
    # PyTorch before 0.4.1 did not count a batch norm's batches; nothing is computed with the number here.
    state = {name: tensor for name, tensor in own.items() if name.endswith(COUNTER)} | dict(state)
    fault = (
        next((f"lacks '{k}'" for k in own if k not in state), None)
        or next((f"holds '{k}', which the network lacks" for k in state if k not in own), None)
        or next((_misfit(k, state[k], own[k]) for k in own if state[k].shape != own[k].shape), None)
    )
    if fault:
        raise UserError(f"{source} {fault}; it must hold exactly the weights of {network or type(module).__name__}.")
    module.load_state_dict(state)


def _misfit(name: str, given: Tensor, own: Tensor) -> str:
    return f"holds '{name}' of shape {tuple(given.shape)} where the network has {tuple(own.shape)}"
