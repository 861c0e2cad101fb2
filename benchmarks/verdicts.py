"""What `detect` answers on the sample's test videos: `make bench-verdicts`, after `make demo`.

Answers per method and quality, how often nobody's manipulation is called one, how often it cannot say, and how well
the manipulated stretch is found in clips of which only a part is manipulated: original, fake and original again of one
person, each a third.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from scipy.stats import binomtest
from tqdm import tqdm

from components.command_line.exits import exit_on_user_error
from components.detect import Detect
from components.judging.model import find_model, software
from emd_core.config import read_params, section
from emd_core.detection.tracks import limits_for
from emd_core.sample.encode import VideoWriter
from emd_core.sample.expression import FPS
from emd_core.storage.manifest import OK, ORIGINAL, VIDEOS, read_manifest
from emd_core.verdicts.judge import Judge
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.verdict import Answer, Stretch, Verdict
from emd_core.video.decode import count_frames, read_frames

CRF = {"c23": 23, "c40": 40}
EVERY_S = 0.1  # in the clips that are manipulated in part: a third of one lasts a second or so


class Part(NamedTuple):
    """A clip, and the seconds in which it is manipulated."""

    path: Path
    start_s: float
    end_s: float


def verdicts(
    model: Annotated[str, typer.Option(help="Folder that train_emd wrote, or a registered model.")] = "models/emd",
    data: Annotated[Path, typer.Option(help="Folder of the sample's data.")] = Path("data"),
    params: Annotated[Path, typer.Option(help="Params file.")] = Path("params.yaml"),
) -> None:
    """Print the answers on the sample's test videos."""
    cfg = section(read_params(params), "detect", Detect, where=str(params))
    looking = Looking(**{name: getattr(cfg, name) for name in Looking.model_fields})
    table = read_manifest(data / "videos", VIDEOS).table
    table = table[(table["split"] == "test") & (table["status"] == OK)]
    console = Console(width=120)
    with TemporaryDirectory() as folder:
        found = find_model(model, Path(folder))
        judge = Judge(found.checkpoint, looking, found.about, software(), precision=found.precision, faces=found.faces)
        judged = [judge(data / "ffpp" / path).verdict for path in tqdm(table["path"], desc="videos")]
        show_answers(console, table.assign(verdict=judged))
        show_rates(console, judge, [v for v, method in zip(judged, table["method"], strict=True) if method == ORIGINAL])
        judge.looking = looking.model_copy(update={"every_s": EVERY_S})
        show_stretches(console, judge, list(partial_clips(table, data / "ffpp", Path(folder))))


def show_answers(console: Console, table: pd.DataFrame) -> None:
    shown = Table("method", "quality", "videos", *Answer, title="Answers on the sample's test videos")
    for (method, quality), rows in table.groupby(["method", "quality"]):
        counts = Counter(verdict.answer for verdict in rows["verdict"])
        shown.add_row(str(method), str(quality), str(len(rows)), *(str(counts[answer]) for answer in Answer))
    console.print(shown)


def show_rates(console: Console, judge: Judge, originals: Sequence[Verdict]) -> None:
    """False positives among the originals at each limit, whether the face could be judged or not."""
    rule = judge.rule
    if rule is None:
        return console.print("The model has no limits.")
    console.print(f"Limits rest on {rule.originals} originals of the val split.")
    scores = np.array([verdict.score or 0.0 for verdict in originals])
    for limit in limits_for(rule, rule.window):
        k, n = int((scores > expit(limit.log_odds)).sum()), len(scores)
        low, high = binomtest(k, n).proportion_ci(method="wilson")
        console.print(
            f"limit for {limit.asked:.0%} (supported: {limit.rate:.1%}): {k} of {n} originals exceed it, "
            f"{k / n:.1%} [{low:.1%}, {high:.1%}]"
        )


def partial_clips(table: pd.DataFrame, dataset: Path, out: Path) -> Iterator[Part]:
    """Of each fake: its original, the fake, and its original once more."""
    originals = table[table["method"] == ORIGINAL].set_index(["target", "quality"])["path"]
    fakes = table[table["method"] != ORIGINAL]
    for row in tqdm(fakes.to_dict("records"), desc="clips"):
        parts = [originals[row["target"], row["quality"]], row["path"], originals[row["target"], row["quality"]]]
        path = out / f"{row['video'].replace('/', '-')}.mp4"
        bounds = [0]
        writer = None
        for part in parts:
            n = count_frames(dataset / part)
            bounds.append(bounds[-1] + n)
            for frame in read_frames(dataset / part, range(n)):
                if writer is None:
                    writer = VideoWriter(path, frame.shape[1], frame.shape[0], CRF[row["quality"]]).__enter__()
                writer.write(frame)
        assert writer is not None
        writer.__exit__(None, None, None)
        yield Part(path, bounds[1] / FPS, bounds[2] / FPS)


def show_stretches(console: Console, judge: Judge, clips: Sequence[Part]) -> None:
    answers, overlaps = Counter(), []
    for clip in tqdm(clips, desc="partly manipulated"):
        verdict = judge(clip.path).verdict
        answers[verdict.answer] += 1
        if verdict.answer is Answer.MANIPULATED:
            found = [s for track in verdict.tracks for s in track.stretches]
            overlaps.append(overlap(found, clip))
    console.print(
        f"Of {len(clips)} clips of which the middle third is manipulated: "
        + ", ".join(f"{answers[answer]} {answer}" for answer in Answer)
    )
    if overlaps:
        console.print(
            f"In those called manipulated, intersection over union of the stretch: mean {np.mean(overlaps):.2f}, "
            f"median {np.median(overlaps):.2f}, worst {min(overlaps):.2f}"
        )


def overlap(stretches: Sequence[Stretch], clip: Part) -> float:
    """Intersection over union of the found seconds and the manipulated ones, by milliseconds."""
    time = np.arange(0, 3 * clip.end_s, 0.001)
    found = np.zeros(len(time), bool)
    for stretch in stretches:
        found |= (time >= stretch.start_s) & (time < stretch.end_s)
    truth = (time >= clip.start_s) & (time < clip.end_s)
    return float((found & truth).sum() / (found | truth).sum())


if __name__ == "__main__":
    exit_on_user_error(lambda: typer.run(verdicts))
