"""How long `make demo` takes, stage by stage: `python -m benchmarks.demo` in a fresh clone after `make setup`.

What DVC has done already is not done again, so in another place it says only how long it takes to find that out.
"""

import subprocess
import time
from collections.abc import Sequence

import torch
import yaml

from emd_core.models.parts.precision import processor


def seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def main() -> None:
    with open("dvc.yaml", encoding="utf-8") as file:
        stages = yaml.safe_load(file)["stages"]  # each stands behind those that it needs
    taken = {name: seconds(["dvc", "repro", "--single-item", name]) for name in stages}
    taken["the rest: promote, two verdicts"] = seconds(["make", "demo"])
    print(f"\n{processor(torch.device('cpu'))}, {torch.get_num_threads()} threads\n\n| stage | seconds |\n|---|---|")
    for name, time_s in (taken | {"all": sum(taken.values())}).items():
        print(f"| {name} | {time_s:.0f} |")


if __name__ == "__main__":
    main()
