"""Draw a small data set, laid out as FaceForensics++ or DFDC and AffectNet, to try the pipeline and for its tests."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

import cv2
from pydantic import Field
from tqdm import tqdm

from components import Out
from emd_core.config import Config
from emd_core.sample import dfdc
from emd_core.sample.affectnet import write_affectnet
from emd_core.sample.dataset import Plan, split_pairs, write_splits, write_target
from emd_core.storage.atomic import atomic_dir


class MakeSample(Config):
    """Every pair of ids gives two originals and, per manipulation method, two fakes; each id is another person."""

    layout: Literal["faceforensics", "dfdc"] = Field(
        description="Of the videos: FaceForensics++'s (the paper's three methods, two qualities, masks) or DFDC's."
    )
    seed: int = Field(ge=0, description="Equal seeds draw equal data.")
    train_pairs: int = Field(ge=1, le=300, description="Pairs of ids in the train split.")
    val_pairs: int = Field(ge=1, le=100, description="Pairs of ids in the val split.")
    test_pairs: int = Field(ge=1, le=100, description="Pairs of ids in the test split.")
    frames: int = Field(ge=1, description="Frames per video, 25 a second.")
    width: int = Field(ge=64, description="Of the videos, pixels.")
    height: int = Field(ge=64, description="Of the videos, pixels; a face takes about half of it.")
    train_expressions: int = Field(ge=1, description="Images per expression class in train_set.")
    val_expressions: int = Field(ge=1, description="Images per expression class in val_set.")
    workers: int = Field(ge=1, description="Processes that draw; the data do not depend on it.")


def make_sample(cfg: MakeSample, *, dataset: Out, expressions: Out) -> None:
    """Draw the videos into `dataset` and the images of expressions into `expressions`."""
    splits = split_pairs(cfg.train_pairs, cfg.val_pairs, cfg.test_pairs)
    targets = [(split, *ids) for split, pairs in splits.items() for a, b in pairs for ids in ((a, b), (b, a))]
    plan = Plan(cfg.seed, cfg.frames, cfg.width, cfg.height)
    spawn = multiprocessing.get_context("spawn")
    with (
        atomic_dir(dataset) as videos,
        atomic_dir(expressions) as images,
        ProcessPoolExecutor(cfg.workers, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool,
    ):
        draw: Callable[[Path, Plan, str, str], None]
        if cfg.layout == "dfdc":
            dfdc.write_metadata(videos, cfg.seed, splits)
            draw, roots = dfdc.write_target, {split: videos / part for split, part in dfdc.PARTS.items()}
        else:
            write_splits(videos, splits)
            draw, roots = write_target, dict.fromkeys(splits, videos)
        jobs = [pool.submit(draw, roots[split], plan, target, source) for split, target, source in targets]
        jobs.append(pool.submit(write_affectnet, images, cfg.seed, cfg.train_expressions, cfg.val_expressions))
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="make_sample", unit="job"):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else the others would be drawn before the error shows
            raise
