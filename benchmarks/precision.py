"""What bf16 gains against fp32 on this processor: the measurements behind `precision: auto`.

    python -m benchmarks.precision

EMD at 299 px, channels last. Rounds of both formats alternate, and on a CPU its own time is counted, so that other load
on the machine matters little (OMP_NUM_THREADS=1 for one core). The ratio is above 1 where bf16 is faster.
`emd_core/models/parts/precision.py` decides by it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from emd_core.models.emd import EMD, EMDConfig
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.models.parts.precision import Number, autocast, pick_device, processor, resolve

NUMBERS: tuple[Number, ...] = ("fp32", "bf16")


def main(
    batch: Annotated[int, typer.Option(min=2, help="Images per step.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Of both formats, in turn.")] = 5,
) -> None:
    device = pick_device()
    torch.manual_seed(0)
    config = EMDConfig(kind="emd", size=299, expression=True, atrous_rates=(6, 12, 18), pixel_loss="mean")
    model = EMD(config, ESR(ESRConfig(size=96, branches=9))).to(device).to(memory_format=torch.channels_last)
    image_B3HW = torch.rand(batch, 3, 299, 299, device=device).to(memory_format=torch.channels_last)
    label_B, known_B = torch.arange(batch, device=device) % 2, torch.ones(batch, dtype=torch.bool, device=device)
    mask_B1HW = torch.zeros(batch, 1, 299, 299, device=device)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def train(number: Number) -> None:
        model.train()
        with autocast(device, number):
            loss = model.loss(image_B3HW, label_B, mask_B1HW, known_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.inference_mode()
    def score(number: Number) -> None:
        model.eval()
        with autocast(device, number):
            model(image_B3HW)

    print(f"{processor(device)}; auto is {resolve('auto', device)}; batch {batch}, images per second:", flush=True)
    for step in (train, score):
        seconds = measure(step, device, rounds)
        speeds = {number: batch / statistics.median(times) for number, times in seconds.items()}
        each = ", ".join(f"{a / b:.2f}" for a, b in zip(seconds["fp32"], seconds["bf16"], strict=True))
        told = ", ".join(f"{number} {speed:.2f}" for number, speed in speeds.items())
        print(
            f"{step.__name__:6} {told}; bf16 / fp32 {speeds['bf16'] / speeds['fp32']:.2f} (rounds: {each})", flush=True
        )


def measure(step: Callable[[Number], None], device: torch.device, rounds: int) -> dict[Number, list[float]]:
    """Seconds of each round, on a CPU those of its cores, after one that is not counted."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds: dict[Number, list[float]] = {number: [] for number in NUMBERS}
    for turn in range(rounds + 1):
        for number in NUMBERS:
            started = clock()
            step(number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[number].append(clock() - started)
    return seconds


if __name__ == "__main__":
    typer.run(main)
