"""Device and number format of the computation, and images in that form."""

import os
from typing import Literal

import torch
from torch import Tensor
from torch.distributed import is_torchelastic_launched

Precision = Literal["auto", "bf16", "fp32"]


def pick_device() -> torch.device:
    """The GPU, or this process's own of several under torchrun; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_torchelastic_launched() else torch.device("cuda")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """bf16 autocast where the processor computes in it ("auto"), or as told; weights stay fp32."""
    capable = (
        torch.cuda.is_bf16_supported()
        if device.type == "cuda"
        else bool(torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"))
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and capable))


def to_input(image_B3HW: Tensor, device: torch.device) -> Tensor:
    """uint8 RGB B3HW -> float in [0, 1], channels last, on the device."""
    return image_B3HW.to(device, memory_format=torch.channels_last).float().div(255)
