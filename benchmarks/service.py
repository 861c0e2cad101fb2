"""A service under 50 clients at once: errors, seconds per file, throughput and memory: `make bench-serve`.

Starts `python -m components serve` with the champion, and sends it frames and whole videos of the sample's test split.
A client whose file is refused with 503 waits as long as it is told; every other answer than a verdict is an error.
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import cv2
import numpy as np
import psutil
import typer
from tqdm import tqdm

POLL_S, SAMPLE_S = 0.5, 2.0
PICTURES = 60  # distinct ones
File = tuple[str, bytes]


def files_of(dataset: Path) -> tuple[list[File], list[File]]:
    """Frames as PNG, and whole videos, of the test split of the FaceForensics++ layout."""
    pairs = json.loads((dataset / "splits/test.json").read_text())
    ids = {name for pair in pairs for name in (*pair, f"{pair[0]}_{pair[1]}", f"{pair[1]}_{pair[0]}")}
    paths = sorted(p for p in dataset.glob("*/*/c*/videos/*.mp4") if p.stem in ids)
    pictures = []
    for path in paths[:: max(1, len(paths) // PICTURES)]:
        _, frame = cv2.VideoCapture(str(path)).read()
        pictures.append((f"{path.stem}.png", cv2.imencode(".png", frame)[1].tobytes()))
    return pictures, [(path.name, path.read_bytes()) for path in paths]


class Clients:
    def __init__(self, url: str, bar: Any) -> None:
        self.url, self.bar = f"{url}/v1/verdicts", bar
        self.seconds: dict[str, list[float]] = {"picture": [], "video": []}
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.told_to_wait = 0

    async def work(self, session: aiohttp.ClientSession, files: list[tuple[str, File]]) -> None:
        while files:
            kind, (name, content) = files.pop()
            start = time.monotonic()
            try:
                state = await self.judged(session, name, content)
                if state["status"] == "done":
                    self.answers[state["verdict"]["answer"]] += 1
                else:
                    self.errors[state["reason"]] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self.errors[repr(error)[:120]] += 1
            self.seconds[kind].append(time.monotonic() - start)
            self.bar.update()

    async def judged(self, session: aiohttp.ClientSession, name: str, content: bytes) -> dict[str, Any]:
        while True:
            async with session.post(self.url, params={"name": name}, data=content) as answer:
                if answer.status == 503 and "Retry-After" in answer.headers:
                    self.told_to_wait += 1
                    await asyncio.sleep(float(answer.headers["Retry-After"]))
                    continue
                answer.raise_for_status()
                state: dict[str, Any] = await answer.json()
                break
        while state["status"] in ("waiting", "working"):
            await asyncio.sleep(POLL_S)
            async with session.get(f"{self.url}/{state['id']}") as answer:
                answer.raise_for_status()
                state = await answer.json()
        return state


def memory(process: psutil.Process) -> dict[str, float]:
    """Resident MB of the service's own process, and of all together, with what they share counted once (PSS)."""
    every = [process, *process.children(recursive=True)]
    return {"service": process.memory_info().rss / 1e6, "all": sum(p.memory_full_info().pss for p in every) / 1e6}


async def run(url: str, process: psutil.Process, files: list[tuple[str, File]], clients: int) -> None:
    samples: list[dict[str, float]] = []

    async def sample() -> None:
        while True:
            samples.append(memory(process))
            await asyncio.sleep(SAMPLE_S)

    with tqdm(total=len(files), unit="file") as bar:
        told, start = Clients(url, bar), time.monotonic()
        sampling = asyncio.create_task(sample())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(told.work(session, files) for _ in range(clients)))
        took = time.monotonic() - start
        sampling.cancel()
    done = sum(told.answers.values())
    print(f"{done} verdicts in {took:.0f} s, {done / took:.2f} a second: {dict(told.answers)}")
    print(f"errors: {sum(told.errors.values())} {dict(told.errors)}; told to wait: {told.told_to_wait} times")
    for kind, seconds in told.seconds.items():
        if seconds:
            shown = ", ".join(f"{q} % {np.percentile(seconds, q):.2f} s" for q in (50, 95, 99, 100))
            print(f"seconds per {kind} ({len(seconds)}): {shown}")
    tenth = max(1, len(samples) // 10)
    middle = len(samples) // 2
    parts = {"start": samples[:tenth], "middle": samples[middle : middle + tenth], "end": samples[-tenth:]}
    for part, of in parts.items():
        print(f"memory at the {part}: " + ", ".join(f"{k} {np.mean([s[k] for s in of]):.0f} MB" for k in of[0]))


def main(
    requests: Annotated[int, typer.Option(help="Files to send.")] = 10_000,
    clients: Annotated[int, typer.Option(help="That send at the same time.")] = 50,
    video_share: Annotated[float, typer.Option(help="Share of the files that are videos.")] = 0.05,
    dataset: Annotated[Path, typer.Option(help="In FaceForensics++'s layout.")] = Path("data/ffpp"),
    model: Annotated[str, typer.Option(help="As of serve.")] = "models:/emd-detector@champion",
    set: Annotated[list[str], typer.Option(metavar="SECTION.KEY=VALUE", help="As of serve.")] = [],  # noqa: B006
) -> None:
    pictures, videos = files_of(dataset)
    draw = random.Random(0)
    kinds = draw.choices(["picture", "video"], [1 - video_share, video_share], k=requests)
    files = [(kind, draw.choice(pictures if kind == "picture" else videos)) for kind in kinds]
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as name:
        log = Path(name) / "log"
        changes = [f"--set={change}" for change in ("serve.port=0", *set)]
        command = [sys.executable, "-m", "components", "serve", f"--model={model}", f"--work={name}/work", *changes]
        with log.open("w") as output:
            service = subprocess.Popen(command, stderr=output, env=os.environ)
        try:
            asyncio.run(run(ready(log, service), psutil.Process(service.pid), files, clients))
        finally:
            service.send_signal(signal.SIGTERM)
            print(f"exit code {service.wait()}, left behind: {len(list(Path(name).glob('work/*')))} folders")


def ready(log: Path, service: subprocess.Popen[bytes]) -> str:
    """The address of the service, once its workers have loaded the model."""
    import requests

    while service.poll() is None:
        time.sleep(0.5)
        if (found := re.search(r"listening on (\S+)", log.read_text())) and requests.get(f"{found[1]}/readyz").ok:
            return found[1]
    raise SystemExit(log.read_text())


if __name__ == "__main__":
    typer.run(main)
