"""A training as the processes that torchrun started, one per GPU; without torchrun it is one process, as ever.

Rank 0 alone writes. Small things (flags, metrics, states) travel between the CPUs, by gloo, so that no GPU waits for
them; gradients and batch statistics between the GPUs, by NCCL.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from emd_core.errors import Preempted, UserError
from emd_core.models.parts.precision import pick_device

T = TypeVar("T")
PATIENCE = timedelta(hours=6)  # the other ranks wait while rank 0 validates; a rank that died is noticed at once


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Within the block torchrun's processes are one group; one process alone needs none."""
    if _started_by_torchrun() == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        gpus, processes = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
        if processes > gpus:
            raise UserError(
                f"torchrun started {processes} processes on a machine with {gpus} GPUs; start it with "
                "--nproc-per-node=gpu."
            )
        torch.cuda.set_device(pick_device())
    dist.init_process_group(backend, timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # not after an error: the other ranks may be gone


def refuse_several_processes(stage: str) -> None:
    """For what is not written for several; without torchrun nothing happens."""
    if (processes := _started_by_torchrun()) > 1:
        raise UserError(
            f"torchrun started {stage} as {processes} processes, but it runs as one; start it with "
            f"`python -m components {stage}`."
        )


def _started_by_torchrun() -> int:
    """The number of processes on all nodes, 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def data_parallel(module: nn.Module) -> nn.Module:
    """The module with its gradients averaged over the ranks; parameters that are fixed now must stay so."""
    return DistributedDataParallel(module) if world_size() > 1 else module


def synchronise_batch_norms(model: nn.Module, device: torch.device) -> None:
    """Batch statistics of the whole batch. On CPUs PyTorch has none such: there they are of rank 0's share."""
    if world_size() > 1 and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def on_main(function: Callable[[], T]) -> T:
    """What `function` returned on rank 0, on every rank; the others wait. What it refused, it refuses on all."""
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = function()
        except (Preempted, UserError, OSError) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, device=torch.device("cpu"))
    result, refusal = outcome
    if refusal is not None:
        raise refusal
    return result


def highest(number: int) -> int:
    """The highest of the ranks' numbers."""
    if world_size() == 1:
        return number
    votes = torch.tensor(number)
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return int(votes)


def mean(x: Tensor) -> Tensor:
    """The mean over the ranks."""
    if world_size() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(own: T) -> list[T]:
    """Every rank's, in the order of the ranks."""
    if world_size() == 1:
        return [own]
    everyones: list[Any] = [None] * world_size()
    dist.all_gather_object(everyones, own)
    return everyones
