"""The model behind a real server process (`mlflow models serve`), over HTTP; and `mlflow models predict`."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pytest
import torch

from components.registry.registration import register
from emd_core.detection.inference import predict
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.emd import EMD, EMDConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.storage.pictures import decode

START_S = 180
JSON = "application/json"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry (mlflow.db) with the model `served`, whose checkpoint lies beside it."""
    root = tmp_path_factory.mktemp("serving")
    torch.manual_seed(0)
    config = EMDConfig(kind="emd", size=64, expression=True, atrous_rates=(1, 2, 3), pixel_loss="mean")
    network = EMD(config, ESR(ESRConfig(size=64, branches=1)))
    with torch.no_grad():
        network.fc.weight *= 1000  # else an untrained network gives nearly the same score to every picture
    save_detector(root / CHECKPOINT, network)
    (root / "metrics.json").write_text("{}")
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    mlflow.create_experiment("serving", artifact_location=(root / "artifacts").as_uri())
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        register("served", root, root, None, {})
    return root


def environment(root: Path) -> dict[str, str]:
    """Without a way back to this repository."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "--model-uri", "models:/served/1", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", *command],
            cwd=root,
            env=environment(root) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(START_S):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (root / "server.log").read_text()
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, 15)  # mlflow and the uvicorn that it started
        server.wait()


def ask(url: str, body: object, kind: str = JSON) -> tuple[int, Any]:
    """Status, and the predictions or the text of the refusal."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read(), parse_constant=pytest.fail)["predictions"]  # NaN is no JSON
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def picture(seed: int, height: int = 64, width: int = 64) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    _, png = cv2.imencode(".png", cv2.resize(noise, (width, height)))
    return bytes(png)


def text(file: bytes) -> str:
    return base64.b64encode(file).decode()


def table(*images: object, **more: object) -> dict[str, object]:
    return {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}, **more}


def test_one_picture_is_answered_as_the_checkpoint_does(url: str, root: Path) -> None:
    status, (row,) = ask(url, table(text(picture(1))))
    image = decode(picture(1))
    assert status == 200 and image is not None
    (score,), (mask,) = predict(
        load_detector(root / CHECKPOINT), torch.from_numpy(image).permute(2, 0, 1)[None], "fp32"
    )
    assert row["score"] == pytest.approx(score, abs=1e-4)
    served = decode(base64.b64decode(row["mask"]))
    assert served is not None and np.abs(served[..., 0] / 255 - mask).max() < 0.01
    assert {key: row[key] for key in ("x", "y", "side", "status", "reason")} == {
        "x": 0,
        "y": 0,
        "side": 64,
        "status": "ok",
        "reason": "",
    }


@pytest.mark.parametrize("form", ["dataframe_records", "instances", "inputs", "csv"])
def test_every_form_of_request_gives_the_same_answer(url: str, form: str) -> None:
    _, expected = ask(url, table(text(picture(1))))
    image = text(picture(1))
    if form == "csv":
        assert ask(url, f"image\n{image}\n".encode(), "text/csv") == (200, expected)
    else:
        assert ask(url, {form: [{"image": image}]}) == (200, expected)


def test_a_broken_picture_is_a_row_and_spoils_no_other(url: str) -> None:
    whole = picture(2, 80, 60)
    _, jpeg = cv2.imencode(".jpg", np.full((200, 200, 3), 9, np.uint8))
    broken = [b"no picture", b"", whole[: len(whole) // 2], bytes(jpeg)[:-40], huge()]
    status, rows = ask(url, table(text(whole), *map(text, broken), text(whole)))
    assert status == 200 and [row["status"] for row in rows] == ["ok", *["unreadable"] * len(broken), "ok"]
    assert rows[0]["score"] == pytest.approx(rows[-1]["score"], abs=1e-5) and rows[0]["side"] == 60
    assert {**rows[1], "reason": ""} == dict.fromkeys(rows[1]) | {"status": "unreadable", "reason": ""}
    assert ask(url, {"instances": [{"image": "not base64!"}]})[1][0]["status"] == "unreadable"


def huge() -> bytes:
    """A small PNG file that says that it has 3.6 thousand million pixels."""
    png = bytearray(picture(0))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(png)


def test_nothing_asked_nothing_answered(url: str) -> None:
    assert ask(url, table()) == (200, [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "valid JSON"),
        (b"{", "valid JSON"),
        ([1], "must be a JSON dictionary"),
        ({}, "exactly one of the input fields"),
        ({"dataframe_records": []}, "Model is missing inputs ['image']"),
        ({"dataframe_split": {"columns": ["picture"], "data": [["x"]]}}, "Model is missing inputs ['image']"),
        (table(5), "not compatible with model signature. Failed to convert column image"),
        (table(None), "not compatible with model signature. Failed to convert column image"),
        ({"inputs": {"image": [[1, 2], [3, 4]]}}, "column image holds list in row 0; it must hold PNG or JPEG files"),
        (table("", params={"detect_faces": "maybe"}), "Invalid parameters found"),
        (table("", params=[1]), "Parameters must be a dictionary"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(url: str, body: object, said: str) -> None:
    status, answer = ask(url, body)
    assert status == 400 and said in answer and "Traceback" not in answer and "stack_trace" not in answer


def test_another_content_type_is_refused(url: str) -> None:
    assert ask(url, picture(1), "image/png")[0] == 415


def test_what_mlflow_ignores(url: str) -> None:
    """Unknown columns and unknown params reach no model: MLflow drops them with a warning in the server's log."""
    _, expected = ask(url, table(text(picture(1))))
    more = {"dataframe_split": {"columns": ["image", "name"], "data": [[text(picture(1)), "x"]]}}
    assert ask(url, more) == (200, expected)
    assert ask(url, table(text(picture(1)), params={"find_faces": True})) == (200, expected)


def test_fifty_at_once_are_answered_as_alone(url: str) -> None:
    bodies = [table(text(picture(seed, 40 + 8 * (seed % 5), 64))) for seed in range(50)]
    alone = [ask(url, body) for body in bodies]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda body: ask(url, body), bodies))
    assert all(status == 200 for status, _ in alone + together)
    scores = [[rows[0]["score"] for _, rows in answers] for answers in (alone, together)]
    assert len({round(score, 4) for score in scores[0]}) > 25, "the pictures must be told apart"
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    for (_, (one,)), (_, (other,)) in zip(alone, together, strict=True):
        assert one | {"score": 0, "mask": 0} == other | {"score": 0, "mask": 0}
        masks = [decode(base64.b64decode(row["mask"])) for row in (one, other)]
        assert masks[0] is not None and masks[1] is not None
        assert np.abs(masks[0].astype(int) - masks[1].astype(int)).max() <= 1


def test_predict_on_a_file(root: Path) -> None:
    (root / "request.json").write_text(json.dumps(table(text(picture(1)), text(b"no picture"))))
    command = ["models", "predict", "--model-uri", "models:/served/1", "--env-manager", "local"]
    command += ["--input-path", "request.json", "--output-path", "answer.json"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mlflow", *command],
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((root / "answer.json").read_text())["predictions"]
    assert [row["status"] for row in rows] == ["ok", "unreadable"]
