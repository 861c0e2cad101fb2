"""Checkpoints that describe themselves: weights and the config that builds the network, in one safetensors file.

Here the form of all, and the expression network's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from emd_core.errors import UserError
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.reading import reading
from emd_core.storage.atomic import atomic_file

VERSION = "2"
CHECKPOINT = "model.safetensors"  # its name in the output folder of a training stage
WHOLE = ("a whole safetensors file", "copy it again or train anew")
KNOWN = ("a checkpoint of this version of the project", "load it with the version that wrote it, or train anew")


def save_esr(path: Path, model: ESR) -> None:
    save_network(path, "esr", model, model.config.model_dump(mode="json"))


def load_esr(path: Path) -> ESR:
    config, weights = read_network(path, "esr")
    with reading(path, *KNOWN):
        model = ESR(ESRConfig.model_validate(config))
        model.load_state_dict(weights)
    return model.eval()


def save_network(path: Path, kind: str, model: nn.Module, config: dict[str, Any]) -> None:
    # One entry only: safetensors writes several in an order that changes from run to run, and with it the digest.
    metadata = {"emd": json.dumps({"kind": kind, "version": VERSION, "config": config})}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if found := not_finite(weights):
        raise UserError(f"{path} is not written, as {found}: the training diverged; lower its learning rate.")
    with atomic_file(path) as temporary:
        save_file(weights, temporary, metadata)


def require_whole(path: Path) -> None:
    """Refuse a file that is not there, or whose header asks for other bytes than it holds."""
    if not path.exists():
        raise UserError(f"{path} does not exist; train the network first, or name an existing checkpoint.")
    with reading(path, *WHOLE), path.open("rb"), safe_open(path, framework="pt"):
        pass


def read_network(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    require_whole(path)
    with reading(path, *WHOLE), safe_open(path, framework="pt") as file:
        metadata = json.loads((file.metadata() or {}).get("emd", "{}"))
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    if metadata.get("kind") != kind or metadata.get("version") != VERSION:
        raise UserError(
            f"{path} holds kind '{metadata.get('kind')}' version {metadata.get('version')}, not '{kind}' version "
            f"{VERSION}; name a checkpoint that this version of the project wrote."
        )
    if found := not_finite(weights):
        raise UserError(f"{path} is of no use, as {found}; train it again with a lower learning rate, or name another.")
    return metadata["config"], weights


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """What of the weights is no number, for a sentence; "" where all is well."""
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    return f"{len(bad)} of its {len(weights)} tensors are not finite, first {bad[0]}" if bad else ""
