"""How time and memory of the data stages grow with the number of videos, and what a kill costs: `make bench-scale`.

Draws a few short videos, lays 10, 100 and 1000 copies of them out as FaceForensics++ originals, and runs ingest,
extract_frames and crop_faces on each, as commands. The last set is then cropped again, killed by SIGKILL half-way and
started again: its files must be those of the undisturbed run, byte for byte.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml
from tqdm import tqdm

from emd_core.sample.dataset import write_splits
from emd_core.sample.encode import VideoWriter
from emd_core.sample.scene import Take
from emd_core.storage.growing import PARTS

DISTINCT = 20  # drawn videos that the others are copies of
FRAMES, WIDTH, HEIGHT, CRF, PICKS = 30, 320, 240, 23, 8
STAGES = {
    "ingest": ["dataset", "videos"],
    "extract_frames": ["dataset", "videos", "frames"],
    "crop_faces": ["dataset", "frames", "faces"],
}


def draw(folder: Path) -> list[Path]:
    paths = [folder / f"{number:03}.mp4" for number in range(DISTINCT)]
    for number, path in enumerate(tqdm(paths, "drawing")):
        take = Take(seed=0, number=number, frames=FRAMES, width=WIDTH, height=HEIGHT)
        with VideoWriter(path, WIDTH, HEIGHT, CRF) as video:
            for t in range(FRAMES):
                video.write(take.frame(t))
    return paths


def lay_out(root: Path, drawn: list[Path], n: int) -> Path:
    """`n` originals, hard links to the drawn ones, and fakes that are not there."""
    ids = [f"{i:04}" for i in range(n)]
    write_splits(root, {"train": list(zip(ids[::2], ids[1::2], strict=True)), "val": [], "test": []})
    videos = root / "original_sequences/youtube/c23/videos"
    videos.mkdir(parents=True)
    (root / "manipulated_sequences").mkdir()
    for i, name in enumerate(ids):
        os.link(drawn[i % len(drawn)], videos / f"{name}.mp4")
    return root


def write_params(path: Path, workers: int) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["ingest"] |= {"methods": ["Face2Face"], "qualities": ["c23"], "max_bad_share": 1.0}
    params["extract_frames"] |= {"train": PICKS, "workers": workers, "max_bad_share": 1.0}
    params["crop_faces"] |= {"workers": workers, "max_bad_share": 1.0, "detect_every": 4}
    path.write_text(yaml.safe_dump(params))


def command(stage: str, folder: Path, params: Path, **other: Path) -> list[str]:
    ports = {port: folder / port for port in STAGES[stage]} | other
    flags = [f"--{port}={path}" for port, path in ports.items()]
    return [sys.executable, "-m", "components", stage, f"--params={params}", *flags]


def run(arguments: list[str]) -> tuple[float, int]:
    """Seconds, and the largest memory of the command's processes together, bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    peak, over = [0], threading.Event()

    def watch() -> None:
        parent = psutil.Process(process.pid)
        while not over.wait(0.1):
            try:
                family = [parent, *parent.children(recursive=True)]
                peak.append(sum(one.memory_info().rss for one in family))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    over.set()
    watcher.join()
    if code:
        sys.exit(f"{' '.join(arguments)} failed with {code}")
    return time.perf_counter() - start, max(peak)


def kill_half_way(arguments: list[str], work: Path, parts: int) -> int:
    """SIGKILL the command and its workers once `parts` parts are there; how many were."""
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(found := list(work.glob(PARTS))) < parts:
        if process.poll() is not None:
            sys.exit("it ended before it could be killed")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(found)


def main(
    sizes: Annotated[list[int] | None, typer.Option(help="Numbers of videos.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Measure growth and restart."""
    sizes = sizes or [10, 100, 1000]
    figures: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in STAGES}
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as name:
        root = Path(name)
        params = root / "params.yaml"
        write_params(params, workers)
        drawn = draw(root)
        for n in sizes:
            folder = root / str(n)
            lay_out(folder / "dataset", drawn, n)
            for stage in STAGES:
                seconds, peak = run(command(stage, folder, params))
                figures[stage][n] = {"seconds": seconds, "peak": peak}
                print(f"{n:5} videos  {stage:14} {seconds:7.1f} s  {peak / 2**20:6.0f} MiB", flush=True)
        empty = {stage: figures[stage][sizes[0]]["seconds"] for stage in STAGES}
        for stage in STAGES:
            small, large = sizes[-2], sizes[-1]
            # The seconds of the smallest set are nearly all start-up; they are taken off both.
            growth = [figures[stage][n]["seconds"] - empty[stage] for n in (small, large)]
            exponent = math.log(growth[1] / growth[0]) / math.log((large - sizes[0]) / (small - sizes[0]))
            ratio = figures[stage][large]["peak"] / figures[stage][small]["peak"]
            print(
                f"{stage}: time grows with exponent {exponent:.2f}, memory {ratio:.2f}x from {small} to {large} videos"
            )
        folder, again = root / str(sizes[-1]), root / "again"
        arguments = command("crop_faces", folder, params, faces=again)
        done = kill_half_way(arguments, root / ".again.partial", math.ceil(sizes[-1] / 8 / 2))
        seconds, _ = run(arguments)
        whole = sorted(p.name for p in (folder / "faces").iterdir())
        same = whole == sorted(p.name for p in again.iterdir()) and all(
            (folder / "faces" / name).read_bytes() == (again / name).read_bytes() for name in whole
        )
        print(f"killed after {8 * done} videos; the rest took {seconds:.1f} s; equal to the undisturbed run: {same}")
        if not same:
            sys.exit(1)
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
