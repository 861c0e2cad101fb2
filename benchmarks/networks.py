"""The table of docs/models.md: every network as its profile params/ffpp-<network>.yaml makes it.

    python -m benchmarks.networks

Writes the lines between the page's two marks. Parameters are those that PyTorch counts (no running statistics), the
expression network's included. Floating-point operations (a multiplication and an addition are two) are of one image of
the network's own size, images per second of batches of 8 in the numbers that `precision: auto` takes here.
"""

import os
import time
from html import escape
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from emd_core.config import read_params, section
from emd_core.detection.training import TrainEmd
from emd_core.expressions.training import TrainFer
from emd_core.models.build import build_detector
from emd_core.models.detector import Detector
from emd_core.models.parts.esr import ESR
from emd_core.models.parts.precision import autocast, pick_device, processor

PAGE = Path(__file__).parents[1] / "docs/models.md"
MARKS = ("<!-- networks: python -m benchmarks.networks -->\n", "<!-- end of networks -->\n")
BATCH, ROUNDS = 8, 3
COLUMNS = ["network", "input, px", "parameters", "GFLOP", "images/s", "localises"]
COLUMNS += ["publication", "published weights", "their licence"]
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def build(profile: Path) -> Detector:
    params = read_params(profile)
    network = section(params, "train_emd", TrainEmd, where=str(profile)).network
    fer = ESR(section(params, "train_fer", TrainFer, where=str(profile)).network) if network.with_expression else None
    return build_detector(network, fer).eval()


@torch.inference_mode()
def row(name: str, model: Detector) -> str:
    """One line of the table."""
    device = pick_device()
    model = model.to(device).to(memory_format=torch.channels_last)
    image = torch.rand(BATCH, 3, model.side, model.side, device=device).to(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        model(image[:1])
    with autocast(device, "auto"):
        model(image)  # the first pass is slower
        begin = time.perf_counter()
        for _ in range(ROUNDS):
            model(image)
        if device.type == "cuda":
            torch.cuda.synchronize()
    speed = ROUNDS * BATCH / (time.perf_counter() - begin)
    numbers = sum(value.numel() for value in model.parameters())
    size = model.config.size if model.config.size == model.side else f"{model.config.size} of {model.side}"
    columns = [f"`{name}`", size, f"{numbers:,}", f"{counter.get_total_flops() / 1e9:.2f}", f"{speed:.0f}"]
    columns += ["yes" if model.localises else "no", *(escape(text, quote=False) or "–" for text in model.publication)]
    return f"| {' | '.join(map(str, columns))} |\n"


def main() -> None:
    profiles = {
        path.stem.removeprefix("ffpp-"): path for path in sorted((PAGE.parents[1] / "params").glob("ffpp-*.yaml"))
    }
    networks = {name: path for name, path in profiles.items() if name not in ("dfdc", "experiments")}
    torch.manual_seed(0)
    rows = [row(name, build(path)) for name, path in tqdm(networks.items(), unit="network")]
    text = PAGE.read_text()
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    said = f"Images per second on {os.cpu_count()} cores of {processor(pick_device())}.\n\n"
    PAGE.write_text(before + MARKS[0] + said + HEAD + "".join(rows) + MARKS[1] + after)


if __name__ == "__main__":
    main()
