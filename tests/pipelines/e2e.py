"""The whole pipeline in containers: `make e2e`. Needs a Docker engine that has the image named by EMD_IMAGE.

Small sample data come from a real DVC repository, runs go to a real MLflow server, the end of each run to a webhook.
Three runs: one whose training is preempted once and whose model is promoted, one that trains anew and whose model is
refused, one whose crop step fails. Then the champion judges a folder of videos, one shard of which is killed.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import docker
import mlflow
import pandas as pd
import pytest

from components.cluster.trainjob import job_name
from emd_core.storage.manifest import MASKS, read_manifest
from tests.fakes.tiny import cut_off

PARAMS = "params/e2e.yaml"
MODEL = "emd-detector"
GIT = ["git", "-c", "user.name=e2e", "-c", "user.email=e2e@example.com"]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the cluster's volume; the DVC repository lies on it so that containers can reach it."""
    root = tmp_path_factory.mktemp("volume")
    source = root / "source"
    source.mkdir()
    subprocess.run([*GIT, "init", "-q"], cwd=source, check=True)
    subprocess.run(["dvc", "init", "-q"], cwd=source, check=True)
    paths = ["--dataset", str(source / "data/ffpp"), "--expressions", str(source / "data/affectnet")]
    subprocess.run([sys.executable, "-m", "components", "make_sample", "--params", PARAMS, *paths], check=True)
    subprocess.run(["dvc", "add", "-q", "data/ffpp", "data/affectnet"], cwd=source, check=True)
    for command in (["add", "."], ["commit", "-q", "-m", "sample data"], ["tag", "v1"]):
        subprocess.run([*GIT, *command], cwd=source, check=True)
    return root


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server; its URI."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    arguments += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *arguments], stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(1)
        mlflow.set_tracking_uri(uri)
        yield uri
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server, and the sentences that were posted to it."""
    said: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", said
    server.shutdown()


@pytest.fixture(scope="module")
def pipeline(
    volume: Path, tracking: str, webhook: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Runs a pipeline with changed values; (exit code, names of the tasks whose containers ran, output)."""
    out = tmp_path_factory.mktemp("runs")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking, "EMD_WEBHOOK": webhook[0], "NO_COLOR": "1"}

    def run(*changes: str, dag: str = "emd", parameters: tuple[str, ...] = ()) -> tuple[int, list[str], str]:
        command = ["run-local", "--image", os.environ["EMD_IMAGE"], "--data", str(volume), "--out", str(out)]
        command += ["--params", PARAMS, "--dag", dag, *(f"--set={change}" for change in changes)]
        command += [f"--parameter={value}" for value in parameters]
        started = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "pipelines", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:  # shown as it comes: minutes pass
                print(line, end="")
                lines.append(re.sub(r"\x1b\[\d+m", "", line))
        print(f"--- {time.monotonic() - started:.0f} s, exit code {process.returncode}")
        text = "".join(lines)
        return process.returncode, re.findall(r"Executing task '([\w-]+)'", text), text

    run.out = out  # type: ignore[attr-defined]
    return run


def watch_containers(done: Callable[[Any], bool]) -> None:
    """Asks `done` of each running container, again and again, until it says yes; in the background.

    A container that ends while it is looked at (the engine says 404 or 409) is passed over.
    """

    def watch() -> None:
        engine = docker.from_env()
        while True:
            for container in engine.containers.list(ignore_removed=True):
                with contextlib.suppress(docker.errors.APIError):
                    if done(container):
                        return
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()


def champion() -> Any:
    return mlflow.MlflowClient().get_model_version_by_alias(MODEL, "champion")


def test_a_good_model_goes_from_raw_videos_to_the_registry(
    pipeline: Any, volume: Path, webhook: tuple[str, list[str]]
) -> None:
    preempted: list[str] = []

    def preempt_training(container: Any) -> bool:  # in its second epoch: its node is taken away
        if "train_emd" not in container.attrs["Args"] or b"epoch 2/" not in container.logs():
            return False
        container.kill(signal="SIGTERM")
        preempted.append(container.id)
        return True

    watch_containers(preempt_training)
    code, ran, text = pipeline()
    assert code == 0, text[-3000:]
    sharded = ("extract-frames", "crop-faces", "generate-masks")
    once = ("fetch-data", "ingest", "merge-shards", "validate-data", "train-fer", "train-emd", "evaluate", "gate")
    assert sorted(ran) == sorted([*sharded * 3, *once, "train-emd", "promote", "notify"])
    assert preempted and "stopped: " in text
    again = text[text.rindex("Executing task 'train-emd'") :]
    assert "epoch 2/3" in again and "epoch 1/3" not in again, "the second attempt goes on where the first was stopped"
    assert str(champion().version) == "1"
    merged = next(pipeline.out.rglob("merge-shards/masks"))
    table = read_manifest(merged, MASKS).table
    assert set(table["file"].str.split("/").str[0]) == {"1", "2", "3"}
    for page in ("validate-data/page", "evaluate/page"):
        assert "<html" in next(pipeline.out.rglob(page)).read_text().lower()
    assert json.loads(next(pipeline.out.rglob("evaluate/metrics")).read_text())
    assert not list(volume.glob("checkpoints/*/*")), "the training's state is removed once it is done"
    assert len(webhook[1]) == 1 and webhook[1][0].endswith("ended: SUCCEEDED")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    stages = {run.data.tags.get("stage") for run in runs}
    assert {"validate_data", "train_fer", "train_emd", "evaluate", "gate", "promote"} <= stages
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs if "stage" in run.data.tags}) == 1


def test_a_refused_model_is_reported_and_the_champion_stays(pipeline: Any, webhook: tuple[str, list[str]]) -> None:
    code, ran, text = pipeline("gate.min_videos=1000", "train_emd.epochs=1")
    assert code == 0, text[-3000:]
    again = ["fetch-data", "train-emd", "evaluate", "gate", "report", "notify"]
    assert ran == again, "what did not change is not run again"
    assert "is below the limit of 1000 test videos" in text
    page = next(pipeline.out.rglob("report/page")).read_text()
    assert page.startswith("# Do not promote")
    assert str(champion().version) == "1"
    assert len(webhook[1]) == 2 and webhook[1][1].endswith("ended: SUCCEEDED")


def test_two_runs_share_neither_a_run_in_mlflow_nor_checkpoints_nor_a_trainjob(
    volume: Path, webhook: tuple[str, list[str]]
) -> None:
    """Both trained on the same data; each container's environment named them, as on a cluster the pod's label does."""
    found = [re.search(r"([0-9a-f-]{36}) ended", sentence) for sentence in webhook[1]]
    names = {match[1] for match in found if match}
    assert len(names) == 2
    runs = [r for r in mlflow.search_runs(search_all_experiments=True, output_format="list") if "stage" in r.data.tags]
    parents = {(run.data.tags["pipeline.run"], run.data.tags["mlflow.parentRunId"]) for run in runs}
    assert {name for name, _ in parents} == names and len({parent for _, parent in parents}) == len(parents) == 2
    assert {folder.name for folder in (volume / "checkpoints").iterdir()} == names
    assert len({job_name(name) for name in names}) == 2


def test_a_failing_step_ends_the_run_red_and_the_exit_handler_tells(
    pipeline: Any, webhook: tuple[str, list[str]]
) -> None:
    code, ran, text = pipeline("crop_faces.min_face=5000")
    assert code == 1
    assert "finished with status FAILURE" in text and "videos (100.0%) are unusable" in text
    assert ran.count("crop-faces") >= 2, "it is tried again"
    assert not {"merge-shards", "train-emd", "promote", "report"} & set(ran)
    assert ran[-1] == "notify"
    assert len(webhook[1]) == 3 and "ended: FAILED" in webhook[1][2]


def test_a_folder_of_videos_gets_verdicts_in_shards(
    pipeline: Any, volume: Path, webhook: tuple[str, list[str]]
) -> None:
    clips, verdicts = volume / "clips", volume / "verdicts"
    clips.mkdir()
    found = sorted((volume / "v1/dataset").glob("m*/Face2Face/c23/videos/*.mp4"))
    found += sorted((volume / "v1/dataset").glob("o*/youtube/c23/videos/*.mp4"))
    for video in found:
        shutil.copy(video, clips)
    cut_off(clips / found[1].name)
    done: dict[Path, int] = {}

    def kill_first_shard(container: Any) -> bool:  # as soon as it has its first verdict
        first = {path: path.stat().st_mtime_ns for path in verdicts.glob("1/3/[!.]*/verdict.json")}
        if not first or not {"detect", "1/3"} <= set(container.attrs["Args"]):
            return False
        container.kill()
        done.update(first)
        return True

    watch_containers(kill_first_shard)
    code, ran, text = pipeline("detect.workers=1", dag="detect", parameters=("videos=clips",))
    assert code == 0, text[-3000:]
    assert sorted(ran) == sorted(["settle", *["detect"] * 4, "merge-verdicts", "notify"]), "one is tried again"
    assert 0 < len(done) < len(found) // 3, "the shard was killed in the middle"
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what it had done is not done again"
    table = pd.read_parquet(verdicts / "verdicts.parquet").set_index("path")
    assert sorted(table.index) == sorted(video.name for video in found)
    assert table.index[table["status"] == "unreadable"].tolist() == [found[1].name]
    assert table.loc[found[1].name, "reasons"]
    assert set(table["folder"].str[:3]) == {"1/3", "2/3", "3/3"}
    assert all((verdicts / folder / "report.html").is_file() for folder in table["folder"])
    assert set(table["model"]) == {f"{MODEL} version 1"}
    assert "<html" in next(pipeline.out.rglob("merge-verdicts/page")).read_text()
    assert webhook[1][-1].endswith("ended: SUCCEEDED")
