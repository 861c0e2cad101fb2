"""The published weights of ESR: one file for the base, one for each branch."""

import re
from pathlib import Path

from emd_core.errors import UserError
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.storage.listing import shown
from emd_core.storage.weights import load_exactly, read_state_dict

BASE = "Net-Base-Shared_Representations.pt"
BRANCH = "Net-Branch_{}.pt"
SIZE = 96  # pixels, the input that they were trained on


def load_published_esr(folder: Path) -> ESR:
    """The network of the files in `folder`, in eval mode; as many branches as there are branch files."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the one that holds {BASE} and {BRANCH.format(1)}, ….")
    numbers = [re.fullmatch(r"Net-Branch_(\d+)\.pt", name) for name in shown(folder)]
    branches = max((int(match[1]) for match in numbers if match), default=1)
    files = [folder / BASE, *(folder / BRANCH.format(k) for k in range(1, branches + 1))]
    absent = next((file for file in files if not file.is_file()), None)
    if absent:
        raise UserError(
            f"{absent} is missing; the published weights are {BASE} and {BRANCH.format(1)} onwards, without gaps."
        )
    model = ESR(ESRConfig(size=SIZE, branches=branches))
    for part, file in zip([model.base, *model.branches], files, strict=True):
        load_exactly(part, read_state_dict(file), str(file))
    return model.eval()
