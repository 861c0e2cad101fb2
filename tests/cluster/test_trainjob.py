"""Training on several nodes, against a small fake Kubernetes API."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs"
TASK = {
    "resources": {"limits": {"nvidia.com/gpu": "4", "memory": "64Gi"}, "requests": {"cpu": "8"}},
    "nodeSelector": {"emd/pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "env": [
        {"name": "EMD_CHECKPOINTS", "value": "/data/checkpoints"},
        {"name": "EMD_PIPELINE_RUN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['pipeline/runid']"}}},
    ],
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "emd-data"}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}


class FakeCluster:
    """TrainJobs that take a few looks to end; `outcome` and `refuses` say how."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.made: list[Any] = []
        self.deleted: list[str] = []
        self.looks = 0
        self.outcome = "Complete"
        self.refuses: tuple[int, str] | None = None
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: Any) -> None:
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                kind = "text/plain" if isinstance(body, str) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path.split("?")[0] == JOBS
                if cluster.refuses:
                    return self.answer(cluster.refuses[0], {"message": cluster.refuses[1]})
                name = body["metadata"]["name"]
                if name in cluster.jobs:
                    return self.answer(409, {"message": "exists"})
                cluster.jobs[name] = body
                cluster.made.append(body)
                self.answer(201, body)

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path.endswith("/log"):
                    lines = [f"2026-01-01T00:00:{n:02}.000000000Z epoch {n}" for n in range(1, cluster.looks + 1)]
                    return self.answer(200, "\n".join(lines) + "\n")
                if path.endswith("/pods"):
                    assert "job-completion-index%3D0" in self.path
                    pod = {"metadata": {"name": "node-0-abc", "creationTimestamp": "2026-01-01T00:00:00Z"}}
                    return self.answer(200, {"items": [pod] if cluster.looks > 1 else []})
                self.answer(200, cluster.look(path.rsplit("/", 1)[1]))

            def do_DELETE(self) -> None:
                name = self.path.split("?")[0].rsplit("/", 1)[1]
                cluster.deleted.append(name)
                cluster.jobs.pop(name, None)
                self.answer(200, {})

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def look(self, name: str) -> Any:
        self.looks += 1
        job = self.jobs[name]
        if self.looks < 3 or self.outcome == "never":
            return job
        if self.outcome == "Complete":
            args = job["spec"]["trainer"]["args"]
            model = Path(args[args.index("--model") + 1])
            model.mkdir(exist_ok=True)
            (model / "model.safetensors").write_text("weights")
            (model / "metrics.json").write_text('{"best/val_accuracy": 0.75}')
        condition = {"type": self.outcome, "status": "True", "message": "node 1 was lost"}
        return {**job, "status": {"conditions": [condition]}}


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    fake = FakeCluster()
    yield fake
    fake.server.shutdown()


@pytest.fixture
def launch(cluster: FakeCluster, tmp_path: Path) -> Any:
    """The launcher as a process."""
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}
    server = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{cluster.server.server_port}"}}
    kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context]}
    kubeconfig |= {"clusters": [server], "users": [{"name": "u", "user": {"token": "t"}}]}
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    (tmp_path / "volume").mkdir()
    for port in ("faces", "masks", "fer", "report"):
        (tmp_path / port).mkdir()
        (tmp_path / port / "file").write_text(port)
    paths = [f"--{port}={tmp_path}/{port}" for port in ("faces", "masks", "fer", "report", "model")]
    given = {"outputs": {"outputFile": f"{tmp_path}/outputs.json", "artifacts": {}}}
    given["outputs"]["artifacts"] = {"metrics": {"artifacts": [{"uri": f"{tmp_path}/metrics"}]}}
    given["inputs"] = {"parameterValues": {"task_config": TASK}}
    job = [
        "--nodes=2",
        "--processes=4",
        "--image=emd:abc",
        "--shm=8Gi",
        "--section={}",
        f"--kubeflow={json.dumps(given)}",
    ]
    script = (
        "import sys; from components.cluster import trainjob; trainjob.POLL_S = 0.05; "
        "trainjob.wait.__defaults__ = (0.05,); "
    )
    script += "from components.command_line.exits import exit_on_user_error; exit_on_user_error(trainjob.main)"

    def start(shared: Path = tmp_path / "volume", run: str = "Run-7") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", script, *paths, *job, f"--shared={shared}"],
            env={**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "EMD_PIPELINE_RUN": run},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_the_model_comes_back_and_nothing_stays_behind(launch: Any, cluster: FakeCluster, tmp_path: Path) -> None:
    process = launch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (body,) = cluster.made
    trainer = body["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 4, "emd:abc")
    assert trainer["command"] == ["torchrun", "-m", "components"] and trainer["args"][0] == "train_emd"
    assert trainer["resourcesPerNode"] == TASK["resources"]
    assert trainer["env"] == TASK["env"][:1], "the label that names the run is on the launcher's pod alone"
    assert trainer["args"][trainer["args"].index("--pipeline-run") + 1] == "Run-7"
    assert f"{tmp_path}/volume/emd-run-7/faces" in trainer["args"]
    (patch,) = body["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    assert {key: pod[key] for key in ("nodeSelector", "tolerations")} == {
        key: TASK[key] for key in ("nodeSelector", "tolerations")
    }
    memory = {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    assert pod["volumes"] == [*TASK["volumes"], memory], "Kubeflow hands over claims, no memory"
    mounts = [*TASK["volumeMounts"], {"name": "dshm", "mountPath": "/dev/shm"}]
    assert pod["containers"] == [{"name": "node", "volumeMounts": mounts}]
    assert (tmp_path / "model/model.safetensors").read_text() == "weights"
    assert json.loads((tmp_path / "metrics").read_text()) == {"best/val_accuracy": 0.75}
    assert re.findall(r"^epoch \d+$", out, re.M) == [f"epoch {n}" for n in range(1, cluster.looks + 1)]
    assert cluster.deleted == ["emd-run-7"] and list((tmp_path / "volume").iterdir()) == []


def test_a_failure_names_the_reason_and_keeps_the_inputs_for_a_retry(
    launch: Any, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.outcome = "Failed"
    process = launch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: TrainJob emd-run-7 failed: node 1 was lost\nepoch 1" in err and "Traceback" not in err
    assert cluster.deleted == ["emd-run-7"] and not (tmp_path / "model").exists()
    copied = tmp_path / "volume/emd-run-7/faces/file"
    copied.write_text("the first attempt's copy")
    cluster.outcome, cluster.looks = "Complete", 0
    assert launch().wait(timeout=60) == 0 and len(cluster.made) == 2


def test_a_retry_waits_for_the_job_that_is_running(launch: Any, cluster: FakeCluster, tmp_path: Path) -> None:
    model = str(tmp_path / "volume/emd-run-7/model")
    (tmp_path / "volume/emd-run-7").mkdir()
    cluster.jobs["emd-run-7"] = {"spec": {"trainer": {"args": ["train_emd", "--model", model]}}}
    process = launch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "TrainJob emd-run-7 is there already" in out and cluster.made == []


def test_sigterm_deletes_the_job(launch: Any, cluster: FakeCluster) -> None:
    cluster.outcome = "never"
    process = launch()
    assert process.stdout is not None
    while "epoch" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "the TrainJob is deleted" in err
    assert cluster.deleted == ["emd-run-7"]


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ((404, "not found"), "the cluster knows no TrainJobs; install Kubeflow Trainer 2.2"),
        ((403, "exceeded quota"), "may not make TrainJobs in team (or its quota is used up): exceeded quota"),
        ((422, "numNodes: Invalid"), "the TrainJob was refused (422 Unprocessable Entity): numNodes: Invalid"),
    ],
)
def test_what_the_cluster_refuses_is_one_sentence(
    launch: Any, cluster: FakeCluster, refuses: tuple[int, str], said: str
) -> None:
    cluster.refuses = refuses
    process = launch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and said in err and "Traceback" not in err
    assert cluster.deleted == []


def test_a_job_is_not_named_by_what_all_runs_share(launch: Any, cluster: FakeCluster) -> None:
    process = launch(run="{{$.pipeline_job_uuid}}")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "which Kubeflow did not resolve" in err and "Traceback" not in err
    assert cluster.made == []


def test_without_the_volume_nothing_is_started(launch: Any, cluster: FakeCluster, tmp_path: Path) -> None:
    process = launch(shared=tmp_path / "nowhere/trainjobs")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "nowhere does not exist; mount the volume of --shared there" in err
    assert cluster.made == []
