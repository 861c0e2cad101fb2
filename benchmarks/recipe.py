"""The ablation of train_emd.recipe over seeds, on known and on unseen manipulations; `make bench-recipe`.

Every training is a process of its own and becomes a row of --results, with the processor, the code and the data behind
it. What has a row is not done again, so an ablation goes on after a stop, also on another machine. In: crops, masks and
the expression network, as the main pipeline leaves them. The table has means and spreads over the seeds.
"""

import argparse
import fcntl
import itertools
import json
import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from components.tracking.provenance import commit
from emd_core.config import read_params, section
from emd_core.detection.crops import FaceCrops
from emd_core.detection.metrics import COUNTS, THRESHOLD, mean_iou
from emd_core.detection.perturbations import PERTURBATIONS
from emd_core.detection.recipe import PAPER, Recipe
from emd_core.detection.training import TrainEmd, train_emd
from emd_core.evaluation.scoring import score_frames
from emd_core.evaluation.slices import slice_rows, slices
from emd_core.models.checkpoint import load_detector, load_rule
from emd_core.models.detector import Detector
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import pick_device, processor
from emd_core.storage.atomic import atomic_file
from emd_core.storage.manifest import MASKS, ORIGINAL, read_manifest

Slices = dict[tuple[str, str], dict[str, float]]
PARTS = {
    "damage": {"damage": 0.5},
    "self_blends": {"self_blends": 0.3},
    "average": {"average": 0.97},
}
JOB = ["variant", "unseen", "seed"]
CLEAN = [("c23", "acc"), ("c23", "auc"), ("c23", "miou"), ("c40", "acc"), ("c40", "auc")]
UNSEEN = [("c23", "auc"), ("c40", "auc"), ("c23", "miou")]
VARIANTS = ["plain", "average", "average+damage", "average+self_blends", "average+damage+self_blends"]
SAME = ["masks", "section", "set"]  # rows that can be compared: of the same data and train_emd but for JOB's
FROM = ["processor", "commit"]
EACH = [f"{figure} {name}" for name in PERTURBATIONS for figure in ("acc", "auc", "miou")]


def recipe_of(variant: str) -> Recipe:
    """The recipe called plain, or parts joined by +."""
    parts = [PARTS[part] for part in variant.split("+") if part != "plain"]
    return PAPER.model_copy(update=dict(itertools.chain(*(part.items() for part in parts))))


def config(args: argparse.Namespace) -> TrainEmd:
    return section(read_params(args.params, args.set), "train_emd", TrainEmd, where=str(args.params))


def one(job: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge: the figures in [0, 1], and CPU seconds per epoch, its validation included."""
    faces, masks = args.data / "faces", args.data / "masks"
    test = FaceCrops(faces, masks, "test")
    changed = {"recipe": recipe_of(job["variant"]), "seed": job["seed"]}
    if job["unseen"]:
        changed["methods"] = sorted(set(test.table["method"]) - {ORIGINAL, job["unseen"]})
    cfg = config(args).model_copy(update=changed)
    work = args.work / name_of(job)
    work.mkdir(parents=True, exist_ok=True)
    history: list[float] = [time.process_time()]
    train_emd(
        cfg,
        faces=faces,
        masks=masks,
        fer=args.fer / CHECKPOINT,
        work=work,
        on_epoch=lambda *_: history.append(time.process_time()),
    )
    model, rule = load_detector(work / CHECKPOINT), load_rule(work / CHECKPOINT)
    clean = judge(model, test, cfg, None)
    if job["unseen"]:
        figures = {f"unseen {figure} {quality}": clean[job["unseen"], quality][figure] for quality, figure in UNSEEN}
    else:
        figures = {f"{figure} {quality}": mean_of(clean, figure, quality) for quality, figure in CLEAN}
        figures["acc NeuralTextures c40"] = clean["NeuralTextures", "c40"]["acc"]
        if rule:
            figures["found"] = mean(rule.found[rule.window].values())
        crops = FaceCrops(faces, masks, "test", None, ["c23"])
        hurt = {name: judge(model, crops, cfg, name) for name in args.perturbations}
        for figure in ("acc", "auc", "miou") if hurt else ():
            each = {f"{figure} {name}": mean_of(slices, figure, "c23") for name, slices in hurt.items()}
            figures |= {f"hurt {figure}": mean(each.values())} | each
    return figures | {"seconds": median(b - a for a, b in itertools.pairwise(history))}


def judge(model: Detector, crops: FaceCrops, cfg: TrainEmd, perturbation: str | None) -> Slices:
    """Frame accuracy at the threshold, frame AUC and mIoU, by method and quality."""
    frames, _ = score_frames(model, crops, 32, cfg.precision, perturbation)
    figures = {}
    for method, quality in slices(frames):
        rows = slice_rows(frames, method, quality)
        right = (rows["score"] > THRESHOLD) == (rows["label"] == 1)
        figures[method, quality] = {
            "acc": float(right.mean()),
            "auc": float(roc_auc_score(rows["label"], rows["score"])),
            "miou": float(mean_iou(*rows[COUNTS].sum())),
        }
    return figures


def mean_of(found: Slices, figure: str, quality: str) -> float:
    """Over the methods."""
    return mean(figures[figure] for (_, of), figures in found.items() if of == quality)


def name_of(job: dict[str, Any]) -> str:
    """Of its files: equal jobs have equal names."""
    return "-".join(str(job[key]) for key in (*JOB, "masks", "section") if job[key] != "")


def start(job: dict[str, Any], args: argparse.Namespace) -> dict[str, Any] | None:
    """The row of a job that runs as a process of its own; None if it fails, and its log then says why."""
    out = args.work / f"{name_of(job)}.json"
    with out.with_suffix(".log").open("w") as log:
        command = [sys.executable, "-m", "benchmarks.recipe", *sys.argv[1:], "--one", json.dumps(job)]
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        ended = subprocess.run(
            command, check=False, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": threads}
        )
    if ended.returncode:
        tqdm.write(f"a training failed: {log.name}")
        return None
    return job | dict(zip(FROM, (processor(pick_device()), commit()[:12]), strict=True)) | json.loads(out.read_text())


def read(path: Path) -> pd.DataFrame:
    """The rows of --results, none if there is no such file."""
    texts = dict.fromkeys(["unseen", *SAME, *FROM], str)  # a digest may look like a number
    rows = pd.read_csv(path, dtype=texts) if path.is_file() else pd.DataFrame(columns=[*JOB, *SAME])
    return rows.fillna({"unseen": "", "set": ""})


def add(row: dict[str, Any], args: argparse.Namespace) -> None:
    """To --results, which another start may write at the same time."""
    with (args.work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = pd.concat([read(args.results), pd.DataFrame([row])], ignore_index=True)
        with atomic_file(args.results) as temporary:
            rows.sort_values([*SAME, *JOB], kind="stable").to_csv(temporary, index=False, float_format="%.4f")


def table(rows: pd.DataFrame) -> str:
    """Means and standard deviations over the seeds, in percent; CPU `seconds` per epoch as they are."""
    figures = [c for c in rows if c not in (*JOB, *SAME, *FROM, *EACH)]
    lines = []
    for (*same, unseen), group in rows.groupby([*SAME, "unseen"], sort=False):
        shown = [c for c in figures if group[c].notna().any()]
        lines += [
            f"\n{f'{unseen} unseen' if unseen else 'All manipulations known'} ({', '.join(filter(None, same))})\n"
        ]
        lines += [f"| recipe | n | {' | '.join(shown)} |", "|---" * (len(shown) + 2) + "|"]
        for variant, of in group.groupby("variant", sort=False):
            told = (spread(of[c] * (1 if c == "seconds" else 100)) for c in shown)
            lines.append(f"| {variant} | {len(of)} | {' | '.join(told)} |")
        hurt = group.reindex(columns=["variant", *EACH]).dropna(how="all", subset=EACH)
        if not hurt.empty:
            lines += ["", *hurt_table(hurt)]
    return "\n".join(lines)


def hurt_table(rows: pd.DataFrame) -> list[str]:
    """Accuracy and AUC under each perturbation, a column for each recipe."""
    variants = {f"{variant} ({len(of)})": of for variant, of in rows.groupby("variant", sort=False)}
    lines = [f"| acc, AUC | {' | '.join(variants)} |", "|---" * (len(variants) + 1) + "|"]
    for name in (name for name in PERTURBATIONS if rows[f"acc {name}"].notna().any()):
        told = (f"{spread(100 * of[f'acc {name}'])}, {spread(100 * of[f'auc {name}'])}" for of in variants.values())
        lines.append(f"| {name} | {' | '.join(told)} |")
    return lines


def spread(values: pd.Series) -> str:
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds faces and masks")
    parser.add_argument("--fer", type=Path, default=Path("models/fer"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/recipe.csv"), help="has or gets a row for each"
    )
    parser.add_argument("--work", type=Path, default=Path(".bench-recipe"), help="for trainings on their way")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only print the table")
    parser.add_argument("--variants", nargs="+", default=VARIANTS)
    parser.add_argument("--unseen", nargs="*", default=[], help="methods that are left out, one after another")
    parser.add_argument("--perturbations", nargs="*", default=[*PERTURBATIONS], help="how crops are hurt; none: clean")
    parser.add_argument("--set", nargs="*", default=[], help="train_emd.key=value for all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time, each with one thread")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        job = json.loads(args.one)
        args.work.mkdir(parents=True, exist_ok=True)
        (args.work / f"{name_of(job)}.json").write_text(json.dumps(one(job, args)))
        return
    rows = read(args.results)
    if not args.seeds:
        return print(table(rows))
    others = config(args).model_dump_json(exclude={"recipe", "seed"}).encode()
    same = [read_manifest(args.data / "masks", MASKS).id, f"{zlib.crc32(others):08x}", " ".join(args.set)]
    done = set(rows[[*JOB, *SAME]].itertuples(index=False, name=None))
    asked = itertools.product(args.variants, args.unseen or [""], args.seeds)
    jobs = [dict(zip([*JOB, *SAME], [*job, *same], strict=True)) for job in asked if (*job, *same) not in done]
    args.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        for ended in tqdm(
            as_completed([pool.submit(start, job, args) for job in jobs]), total=len(jobs), unit="training"
        ):
            if row := ended.result():
                add(row, args)
    print(table(read(args.results)))


if __name__ == "__main__":
    main()
