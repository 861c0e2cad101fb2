"""What a save within an epoch costs: the state of the paper's network on this machine's disk, median of `rounds`.

The state is the network's and Adam's two moments. Nothing else is done meanwhile: a training stands still for so long,
every `train_emd.save_minutes`.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from emd_core.config import read_params, section
from emd_core.detection.training import TrainEmd
from emd_core.models.build import build_detector
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.training.resuming import STATE, Resumable, seed_epoch


def saving(
    params: Annotated[Path, typer.Option(help="Params file; its section train_emd names the network.")] = Path(
        "params/ffpp.yaml"
    ),
    folder: Annotated[Path, typer.Option(help="Where to write, such as a mounted volume.")] = Path(),
    rounds: Annotated[int, typer.Option(min=1)] = 7,
) -> None:
    """Print the size of the state, the seconds of a save, and their share of the time between two."""
    cfg = section(read_params(params), "train_emd", TrainEmd, str(params))
    fer = ESR(ESRConfig(size=96, branches=9)) if cfg.network.with_expression else None
    model = build_detector(cfg.network, fer)
    theta = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(theta, fused=True)
    for parameter in theta:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    _, generators = seed_epoch(0, torch.device("cpu"))
    with tempfile.TemporaryDirectory(dir=folder) as work:
        state = Resumable(Path(work) / STATE, model, optimizer)
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            state.save_within([torch.tensor(0.0)] * 1000, generators)
            seconds.append(time.perf_counter() - started)
        size = (Path(work) / STATE).stat().st_size
    middle, spread = median(seconds), f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"{size / 1e6:.0f} MB in {middle:.2f} s ({spread}), {middle / (60 * cfg.save_minutes):.2%} of the time")


if __name__ == "__main__":
    typer.run(saving)
