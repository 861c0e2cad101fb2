"""The ablation of train_emd.recipe: each of its parts alone and left out, over seeds; `make bench-recipe`.

Every training is a process of its own, its result a file in --work: a stopped ablation goes on. In: crops, masks and
the expression network, as the main pipeline leaves them. Out: recipe.md, a table of means and spreads over the seeds.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from emd_core.config import read_params, section
from emd_core.detection.crops import FaceCrops
from emd_core.detection.metrics import COUNTS, THRESHOLD, mean_iou
from emd_core.detection.perturbations import PERTURBATIONS
from emd_core.detection.recipe import PAPER
from emd_core.detection.training import TrainEmd, train_emd
from emd_core.evaluation.scoring import score_frames
from emd_core.evaluation.slices import slice_rows, slices
from emd_core.models.checkpoint import load_detector, load_rule
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.storage.manifest import ORIGINAL

PARTS = {
    "damage": {"damage": 0.5},
    "jitter": {"jitter": 0.05},
    "self_blends": {"self_blends": 0.3},
    "schedule": {"warm_up": 0.05, "cosine": True},
}


def variant(name: str) -> dict[str, Any]:
    """The recipe called plain, all, a part, parts joined by +, or all-part."""
    recipe = PAPER.model_dump()
    first, *without = name.split("-")
    parts = {"plain": [], "all": [*PARTS]}.get(first, first.split("+"))
    for part in parts:
        recipe |= PARTS[part] if part not in without else {}
    return recipe


def one(job: dict[str, Any], args: argparse.Namespace) -> None:
    """Train and judge; what both gave in the job's file."""
    chosen = [f"train_emd.recipe={json.dumps(variant(job['variant']))}", f"train_emd.seed={job['seed']}"]
    masks, faces = args.data / "masks", args.data / "faces"
    if job["unseen"]:
        methods = sorted(set(FaceCrops(faces, masks, "test").table["method"]) - {ORIGINAL, job["unseen"]})
        chosen.append(f"train_emd.methods=[{', '.join(methods)}]")
    cfg = section(read_params(args.params, [*chosen, *args.set]), "train_emd", TrainEmd, where=str(args.params))
    work = Path(job["file"]).with_suffix("")
    work.mkdir(parents=True, exist_ok=True)
    history: list[dict[str, float]] = []
    started = time.perf_counter()
    train_emd(
        cfg, faces=faces, masks=masks, fer=args.fer / CHECKPOINT, work=work, on_epoch=lambda _, m: history.append(m)
    )
    seconds = time.perf_counter() - started
    model = load_detector(work / CHECKPOINT)
    found = {"seconds": seconds, "history": history}
    if rule := load_rule(work / CHECKPOINT):
        found["verdicts"] = mean(rule.found[rule.window].values())
    found["as it is"] = judge(model, FaceCrops(faces, masks, "test"), cfg, None)
    test = FaceCrops(faces, masks, "test", None, ["c23"])
    for name in [] if job["unseen"] else args.perturbations:
        found[name] = judge(model, test, cfg, name)
    Path(job["file"]).write_text(json.dumps(found))


def judge(model: Any, crops: FaceCrops, cfg: TrainEmd, perturbation: str | None) -> dict[str, dict[str, float]]:
    """Frame accuracy, frame AUC and mIoU of every slice."""
    frames, _ = score_frames(model, crops, 32, cfg.precision, perturbation)
    figures = {}
    for method, quality in slices(frames):
        rows = slice_rows(frames, method, quality)
        right = (rows["score"] > THRESHOLD) == (rows["label"] == 1)
        figures[f"{method}/{quality}"] = {
            "acc": float(right.mean()),
            "auc": float(roc_auc_score(rows["label"], rows["score"])),
            "miou": float(mean_iou(*rows[COUNTS].sum())),
        }
    return figures


def figures_of(found: dict[str, Any]) -> dict[str, float]:
    """Of one training without an unseen method."""
    clean = {name: f for name, f in found["as it is"].items() if name.endswith("c23")}
    hurt = [f for name in PERTURBATIONS if name in found for f in found[name].values()]
    figures = {
        "clean acc": mean(f["acc"] for f in clean.values()),
        "clean mIoU": mean(f["miou"] for f in clean.values()),
        "NT/c40 acc": found["as it is"]["NeuralTextures/c40"]["acc"],
        "c40 acc": mean(f["acc"] for name, f in found["as it is"].items() if name.endswith("c40")),
    }
    for figure, name in [("acc", "acc"), ("auc", "AUC"), ("miou", "mIoU")] if hurt else []:
        figures[f"hurt {name}"] = mean(f[figure] for f in hurt)
    if "verdicts" in found:
        figures["found"] = found["verdicts"]  # of the fakes of val, by the verdict's rule
    return figures


def unseen_figures(found: dict[str, Any], unseen: str) -> dict[str, float]:
    own = [f for name, f in found["as it is"].items() if name.startswith(unseen)]
    return {"unseen AUC": mean(f["auc"] for f in own), "unseen mIoU": mean(f["miou"] for f in own)}


def told(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{100 * mean(values):.1f}" + (f" ± {100 * stdev(values):.1f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds faces and masks")
    parser.add_argument("--fer", type=Path, default=Path("models/fer"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/recipe"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+")
    parser.add_argument("--unseen", nargs="*", default=[], help="methods that are left out, one after another")
    parser.add_argument(
        "--perturbations", nargs="*", default=[*PERTURBATIONS], help="how crops are hurt; all by default"
    )
    parser.add_argument("--set", nargs="*", default=[], help="train_emd.key=value for all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(json.loads(args.one), args)
    names = args.variants or ["plain", *PARTS, "all", *(f"all-{part}" for part in PARTS)]
    jobs = [
        {
            "variant": name,
            "seed": seed,
            "unseen": unseen,
            "file": f"{args.work}/{name}-{seed}{unseen and '-' + unseen}.json",
        }
        for seed, unseen, name in itertools.product(args.seeds, args.unseen or [""], names)
    ]
    args.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        for _ in tqdm(pool.map(start, jobs), total=len(jobs), unit="training"):
            pass
    rows = {}
    for job in jobs:
        path = Path(job["file"])
        if not path.is_file():
            continue
        found = json.loads(path.read_text())
        figures = unseen_figures(found, job["unseen"]) if job["unseen"] else figures_of(found)
        figures["seconds / 100"] = found["seconds"] / 100
        rows.setdefault(job["variant"], []).append(figures)
    columns = list(dict.fromkeys(key for found in rows.values() for f in found for key in f))
    lines = [f"| | n | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    lines += [
        f"| {name} | {len(found)} | {' | '.join(told([f[c] for f in found]) for c in columns)} |"
        for name, found in rows.items()
    ]
    print("\n".join(lines))


def start(job: dict[str, Any]) -> None:
    if Path(job["file"]).is_file():
        return
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    with Path(job["file"]).with_suffix(".log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.recipe", *sys.argv[1:], "--one", json.dumps(job)],
            check=False,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": threads},
        )


if __name__ == "__main__":
    main()
