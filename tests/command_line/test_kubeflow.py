"""What Kubeflow gets from the stages: views of their outputs, and the end of the run."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.cluster.notify import as_sentence, notify
from components.command_line.kubeflow import list_paths, local_path, write_outputs
from components.gate import gate
from components.report import Report, report, worst_videos
from emd_core.errors import UserError
from emd_core.evaluation.gating import Gate
from tests.house.contract import ROOT

SLICE = {"frame_accuracy": 0.75, "frame_auc": 0.875, "miou": None, "videos": 4}
FRAMES = pd.DataFrame(
    {
        "video": ["a", "a", "b", "b", "c", "d"],
        "label": [0, 0, 1, 1, 1, 0],
        "score": [0.1, 0.3, 0.9, 0.7, 0.2, 0.6],
        "quality": "c23",
    }
)


def executor_input(out: Path, artifacts: tuple[str, ...], parameters: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "outputs": {
            "artifacts": {n: {"artifacts": [{"name": n, "uri": str(out / n)}]} for n in artifacts},
            "parameters": {n: {"outputFile": str(out / n)} for n in parameters},
            "outputFile": str(out / "executor_output.json"),
        }
    }


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    metrics = {"slices": {"Face2Face/c23": SLICE}, "model": "m", "data": "d"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "report.html").write_text("<html>")
    FRAMES.to_parquet(folder / "predictions.parquet")
    return folder


def test_evaluate_shows_values_curve_confusion_and_page(evaluation: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = ("evaluation", "metrics", "roc", "confusion", "page")
    write_outputs("evaluate", executor_input(out, wanted), {"evaluation": evaluation})
    said = json.loads((out / "executor_output.json").read_text())["artifacts"]
    assert set(said) == set(wanted)
    shown = {name: artifact["artifacts"][0].get("metadata") for name, artifact in said.items()}
    assert shown["metrics"] == {"Face2Face/c23/frame_accuracy": 0.75, "Face2Face/c23/frame_auc": 0.875}
    assert json.loads((out / "metrics").read_text()) == shown["metrics"]
    rows = [row["row"] for row in shown["confusion"]["confusionMatrix"]["rows"]]
    assert rows == [[2, 1], [1, 2]]
    points = shown["roc"]["confidenceMetrics"]
    assert (points[0]["falsePositiveRate"], points[-1]["recall"]) == (0, 1)
    assert all(0 <= p["confidenceThreshold"] <= 1 for p in points)
    assert (out / "page").read_text() == "<html>" and shown["page"] is None
    assert not (out / "evaluation").exists()  # the stage's own folder is not touched


def asking(floor: float) -> Gate:
    """A gate that asks for this frame accuracy."""
    return Gate(
        floors={"Face2Face": {"c23": {"frame_accuracy": floor}}},
        max_drop={"frame_accuracy": 0.1},
        no_drop=["Face2Face/c23"],
        min_videos=1,
        max_latency_ms=None,
        max_size_mb=None,
    )


@pytest.mark.parametrize(("floor", "verdict"), [(0.5, "true"), (0.9, "false")])
def test_the_gates_branch_is_a_parameter(
    evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, floor: float, verdict: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    gate(asking(floor), evaluation=evaluation, decision=tmp_path / "decision")
    write_outputs("gate", executor_input(tmp_path, ("page",), ("promote",)), {"decision": tmp_path / "decision"})
    assert (tmp_path / "promote").read_text() == verdict
    assert (tmp_path / "page").read_text().startswith("# Promote" if verdict == "true" else "# Do not promote")


def test_a_refusal_is_reported_with_the_worst_videos(
    evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    gate(asking(0.9), evaluation=evaluation, decision=tmp_path / "decision")
    report(Report(worst=1), evaluation=evaluation, decision=tmp_path / "decision", refusal=tmp_path / "refusal")
    text = (tmp_path / "refusal/report.md").read_text()
    assert "| 0.7500 | ≥ 0.9000 |  | **failed** |" in text and "| c | 0.200 |" in text and "| d |" not in text
    (run,) = mlflow.search_runs(
        search_all_experiments=True, filter_string="tags.stage = 'report'", output_format="list"
    )
    assert run.data.tags["promotion"] == "refused"


def test_only_misjudged_videos_are_the_worst() -> None:
    assert worst_videos(FRAMES, 5) == {"c": 0.2, "d": 0.6}


def test_lists_of_artifacts_lie_where_the_launcher_puts_them() -> None:
    uris = ["s3://bucket/a?region=x", "minio://b/c", "gs://d", "/local/e"]
    given = {"inputs": {"artifacts": {"shards": {"artifacts": [{"uri": uri} for uri in uris]}}}}
    assert [str(p) for p in list_paths(given, "shards")] == ["/s3/bucket/a", "/minio/b/c", "/gcs/d", "/local/e"]
    assert local_path("relative") == Path("relative")


def test_merge_shards_takes_its_lists_from_the_executor_input(tmp_path: Path) -> None:
    lists = {f"{kind}_shards": {"artifacts": [{"uri": f"{tmp_path}/no-{kind}"}]} for kind in ("faces", "masks")}
    given = {"inputs": {"artifacts": lists}, "outputs": {"outputFile": f"{tmp_path}/o"}}
    command = ["components", "merge_shards", "--section", "{}", "--faces", f"{tmp_path}/f", "--masks", f"{tmp_path}/m"]
    command += ["--kubeflow", json.dumps(given)]
    done = run_stage(command, EMD_PIPELINE_RUN="run-7")
    assert done.returncode == 2
    assert f"--faces_shards {tmp_path}/no-faces does not exist" in done.stderr


def run_stage(command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            "{{$.pipeline_job_uuid}}",
            "EMD_PIPELINE_RUN (--pipeline-run) is '{{$.pipeline_job_uuid}}', which Kubeflow did",
        ),
        ("", "EMD_PIPELINE_RUN is empty in a Kubeflow task; compile the pipeline again"),
    ],
)
@pytest.mark.parametrize("stage", ["merge_shards", "gate"])
def test_a_run_without_a_name_of_its_own_is_refused(stage: str, run: str, said: str, tmp_path: Path) -> None:
    ports = {"merge_shards": ("faces", "masks"), "gate": ("evaluation", "decision")}[stage]
    paths = [word for port in ports for word in (f"--{port}", str(tmp_path / port))]
    done = run_stage(["components", stage, *paths, "--kubeflow", "{}"], EMD_PIPELINE_RUN=run)
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {said}")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that keeps what is posted to it."""
    posted: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("EMD_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret-path")
    yield posted
    server.shutdown()
    thread.join()
    server.server_close()


FAILED = {"state": "FAILED", "pipelineJobResourceName": "emd-1", "error": {"code": 9, "message": "crop-faces failed"}}


def test_the_end_of_a_run_goes_to_the_webhook(webhook: list[dict[str, str]]) -> None:
    notify(json.dumps(FAILED))
    assert webhook == [{"text": "EMD pipeline emd-1 ended: FAILED (crop-faces failed)"}]


def test_without_a_webhook_nothing_is_sent_and_a_dead_one_fails_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EMD_WEBHOOK", raising=False)
    notify('{"state": "SUCCEEDED"}', run="7")
    monkeypatch.setenv("EMD_WEBHOOK", "http://127.0.0.1:9/secret-path")
    notify('{"state": "SUCCEEDED"}', run="7")
    said = capsys.readouterr()
    assert said.out == "EMD pipeline 7 ended: SUCCEEDED\n" * 2
    assert said.err.startswith("warning: the webhook was not reached") and "secret-path" not in said.err
    assert as_sentence({"state": "FAILED", "error": None}, "7") == "EMD pipeline 7 ended: FAILED"


def test_the_end_is_told_in_words_and_only_where_it_is_known() -> None:
    """As a real Kubeflow told it: to the container, and its run when everything had come from the cache."""
    (container,) = [
        c for c in json.loads((ROOT / "tests/fakes/kubeflow/containers.json").read_text()) if c["stage"] == "notify"
    ]
    status = container["given"]["status"]
    assert status["state"] == "COMPLETE"
    assert as_sentence(status, "d14617fe") == "EMD pipeline emd-xssds, run d14617fe ended: SUCCEEDED"
    cached = status | {"state": "RUNNING"}
    assert as_sentence(cached, "d14617fe") == "EMD pipeline emd-xssds, run d14617fe ended, its page shows how"


def test_report_needs_a_decision(evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"decision.json does not exist; run gate .`dvc repro gate`"):
        report(Report(worst=1), evaluation=evaluation, decision=tmp_path / "no", refusal=tmp_path / "refusal")
