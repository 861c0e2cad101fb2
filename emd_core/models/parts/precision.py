"""Device and number format of the computation, and images in that form."""

import os
from typing import Literal

import torch
from torch import Tensor
from torch.distributed import is_torchelastic_launched

Number = Literal["bf16", "fp32"]
Precision = Literal["auto", "bf16", "fp32"]


def pick_device() -> torch.device:
    """The GPU, or this process's own of several under torchrun; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_torchelastic_launched() else torch.device("cuda")


def resolve(precision: Precision, device: torch.device) -> Number:
    """What "auto" comes to: bf16 where it was measured to be faster than fp32 (benchmarks/precision.py).

    That is on GPUs which compute in it, on processors with AMX-BF16, and on AMD's with AVX512-BF16. On Intel's with
    AVX512-BF16 alone it is slower, though they claim it; on any other nobody has measured it.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has = torch.cpu.get_capabilities()
    gains = has.get("amx_bf16") or (has.get("avx512_bf16") and "AMD" in str(has.get("cpu_name")))
    return "bf16" if gains else "fp32"


def processor(device: torch.device) -> str:
    """The processor, with the features that decide, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    has = torch.cpu.get_capabilities()
    return " ".join([str(has.get("cpu_name", "CPU")), *(name for name in ("avx512_bf16", "amx_bf16") if has.get(name))])


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """bf16 autocast where `precision` comes to it; weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve(precision, device) == "bf16")


def to_input(image_B3HW: Tensor, device: torch.device) -> Tensor:
    """uint8 RGB B3HW -> float in [0, 1], channels last, on the device."""
    return image_B3HW.to(device, memory_format=torch.channels_last).float().div(255)
