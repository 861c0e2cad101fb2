"""Which number format "auto" is, by what the processor has."""

from typing import Any

import pytest
import torch

from emd_core.models.parts.precision import autocast, resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("has", "chosen"),
    [
        pytest.param({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bf16", id="Xeon with AMX"),
        pytest.param({"cpu_name": "Intel Xeon", "avx512_bf16": True}, "fp32", id="Xeon that only claims it"),
        pytest.param({"cpu_name": "AMD EPYC", "avx512_bf16": True}, "bf16", id="EPYC that has it"),
        pytest.param({"cpu_name": "AMD EPYC", "avx512_bf16": False}, "fp32", id="older EPYC"),
        pytest.param({"cpu_name": "Neoverse V1"}, "fp32", id="nobody has measured it"),
    ],
)
def test_auto_is_what_was_measured_to_be_faster(
    has: dict[str, Any], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert resolve("auto", CPU) == chosen
    assert [resolve("bf16", CPU), resolve("fp32", CPU)] == ["bf16", "fp32"]
    with autocast(CPU, "auto"):
        assert torch.is_autocast_enabled("cpu") == (chosen == "bf16")
