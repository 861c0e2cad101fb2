"""Number format and device of the computation."""

from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """bf16 autocast where the processor computes in it ("auto"), or as told; weights stay fp32."""
    capable = (
        torch.cuda.is_bf16_supported()
        if device.type == "cuda"
        else bool(torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"))
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and capable))
