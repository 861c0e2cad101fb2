"""Real servers that go away while runs log to them: MLflow's own, behind a password, and PostgreSQL. `make servers`."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import psycopg
import pytest

from components.sync import sync
from components.tracking import delivery
from components.tracking.run import stage_run
from components.tracking.server import connect
from emd_core.config import Config
from emd_core.errors import UserError
from tests.house.contract import ROOT

STEPS, WAITS = 60, 30  # in step 30 the training waits until it may go on
TRAINING = (
    f"STEPS, WAITS = {STEPS}, {WAITS}"
    + """
import time
from pathlib import Path
import numpy as np
from components.command_line.exits import exit_on_user_error
from components.tracking.run import RUN, stage_run
from emd_core.config import Config

def train():
    with stage_run("train_emd", Config(), {}, name="train_emd", resume=Path("work") / RUN) as run:
        for step in range(STEPS):
            run.log_metrics({"train/loss": 1 / (step + 1), "val/loss": float(step)}, step)
            if step % 10 == 0:
                run.log_image(np.full((40, 60, 3), step, np.uint8), "val overlays/a", step)
            Path("steps").write_text(str(step))
            while step == WAITS and not Path("go on").exists():
                time.sleep(0.05)
        run.log_artifact(Path("steps"))

exit_on_user_error(train)
"""
)


class Server:
    """A process that is started, killed and started again on its port."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port, self._command, self._log = port, command, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        wait_until(self.answers, f"the server on port {self.port}")

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        """Asked by HTTP: a bare connection to a free port of this range may reach itself."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mlflow_server(folder: Path, store: str, *more: str) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", f"{folder}/artifacts", *more]
    return Server(command, port, folder / "server.log")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no trace of the surroundings' variables."""
    for name in ("DVC_EXP_NAME", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMD_PIPELINE_RUN", "nightly")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    return tmp_path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = mlflow_server(tmp_path, f"sqlite:///{tmp_path}/server.db")
    point_at(f"http://127.0.0.1:{made.port}", monkeypatch)
    made.start()
    yield made
    made.kill()


def point_at(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)


def start_training() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", TRAINING], env=environment, stderr=subprocess.PIPE, text=True)


def waits() -> bool:
    return Path("steps").exists() and Path("steps").read_text() == str(WAITS)


def sent() -> bool:
    """Whether the training has sent all that it has logged, but for the state of the machine."""
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return any(run.data.metrics.get("val/loss") == WAITS for run in runs)


def end(training: subprocess.Popen[str], code: int = 0) -> str:
    """Let the training go on to its end; what it says."""
    Path("go on").touch()
    _, errors = training.communicate(timeout=300)
    assert training.returncode == code, errors
    return errors


def the_run() -> mlflow.entities.Run:
    (run,) = mlflow.search_runs(
        search_all_experiments=True, filter_string="tags.stage = 'train_emd'", output_format="list"
    )
    return run


def history(run: mlflow.entities.Run, name: str) -> list[mlflow.entities.Metric]:
    return list(mlflow.MlflowClient().get_metric_history(run.info.run_id, name))


def require_whole(run: mlflow.entities.Run, status: str = "FINISHED") -> None:
    """Every point once, in order; every picture; the end."""
    client = mlflow.MlflowClient()
    for name in ("train/loss", "val/loss"):
        assert [point.step for point in history(run, name)] == list(range(STEPS))
    assert history(run, "train/loss")[3].value == 0.25
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert sorted(int(path.split("+")[2]) for path in pictures if path.endswith(".png")) == list(range(0, STEPS, 10))
    assert sum(path.endswith("compressed.webp") for path in pictures) == STEPS // 10
    assert run.data.tags["mlflow.loggedImages"] == "True"
    assert "steps" in [file.path for file in client.list_artifacts(run.info.run_id)]
    assert run.info.status == client.get_run(run.data.tags["mlflow.parentRunId"]).info.status == status


def test_a_server_killed_and_started_again_misses_nothing(server: Server) -> None:
    training = start_training()
    wait_until(lambda: Path("steps").exists() or training.poll() is not None, "the first step")
    server.kill()
    wait_until(waits, "step 30, without a server")
    time.sleep(delivery.PERIOD * 2)  # so that it has tried
    server.start()
    errors = end(training)
    assert errors.count("does not answer; what is logged is kept in") == 1
    assert "did not take" not in errors
    require_whole(the_run())
    assert not Path(".mlflow-outbox").exists()


def test_a_server_gone_until_the_end_gets_it_from_the_next_stage(server: Server) -> None:
    training = start_training()
    wait_until(waits, "step 30")
    wait_until(sent, "the first half")
    server.kill()
    errors = end(training)
    (sentence,) = [line for line in errors.splitlines() if "did not take" in line]
    assert re.search(r"did not take \d+ points, \d pictures?, \d files?, \d notes? of run train_emd \(", sentence)
    assert "/.mlflow-outbox/" in sentence and "the next stage or `python -m components sync` sends them" in sentence
    with pytest.raises(UserError, match="does not answer; start it, or set MLFLOW_TRACKING_URI"):
        sync()
    server.start()
    with stage_run("gate", Config(), {}):
        pass
    require_whole(the_run())
    assert not Path(".mlflow-outbox").exists()


@pytest.mark.parametrize("first", ["sync", "training"])
def test_a_killed_training_goes_on_in_its_run(server: Server, first: str) -> None:
    training = start_training()
    wait_until(lambda: Path("steps").exists() or training.poll() is not None, "the first step")
    server.kill()
    wait_until(waits, "step 30, without a server")
    training.kill()
    training.communicate()
    server.start()
    if first == "sync":
        sync()
        assert the_run().info.status == "KILLED"
        assert not Path(".mlflow-outbox").exists()
    end(start_training())
    run = the_run()
    assert [point.step for point in history(run, "val/loss")] == list(range(STEPS))
    assert run.info.status == "FINISHED"


def test_without_a_server_a_stage_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(f"http://127.0.0.1:{free_port()}", monkeypatch)
    errors = end(start_training(), code=2)
    assert errors.startswith("error: MLflow at http://127.0.0.1") and len(errors.splitlines()) == 1
    assert not Path("steps").exists()


def test_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = tmp_path / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/auth.db\nadmin_username = admin\n"
        "admin_password = correct-horse-battery\nauthorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\ngrant_default_workspace_access = false\n"
    )
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(ini))
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "of the test")
    made = mlflow_server(tmp_path, f"sqlite:///{tmp_path}/server.db", "--app-name", "basic-auth")
    point_at(f"http://127.0.0.1:{made.port}", monkeypatch)
    made.start()
    try:
        for password in ("", "wrong"):
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            with pytest.raises(UserError, match="refuses the user name or password; set MLFLOW_TRACKING_USERNAME"):
                connect()
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse-battery")
        with stage_run("train_emd", Config(), {}) as run:
            run.log_metrics({"train/loss": 0.5}, 0)
            run.log_image(np.zeros((8, 8, 3), np.uint8), "a", 0)
        assert mlflow.get_run(run.run_id).data.metrics["train/loss"] == 0.5
        assert len(mlflow.MlflowClient().list_artifacts(run.run_id, "images")) == 2
    finally:
        made.kill()


class PostgreSQL:
    """A cluster of its own in a folder, run by an unprivileged user where the tests run as root."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found and not shutil.which("initdb"):
            pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self._bin = found[-1] if found else Path(str(shutil.which("initdb"))).parent
        self.port, self._folder, self._cluster = free_port(), folder, folder / "cluster"
        self._user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
        secret = folder / "password"
        secret.write_text("right")
        if self._user:
            shutil.chown(folder, "nobody")
            shutil.chown(secret, "nobody")
        self._call("initdb", "-D", self._cluster, "-U", "emd", "-A", "scram-sha-256", f"--pwfile={secret}", "-N")
        self.start()

    def uri(self, password: str = "right") -> str:
        return f"postgresql://emd:{password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._call("pg_ctl", "-D", self._cluster, "-w", "-l", self._folder / "postgres.log", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", self._cluster, "-w", "-m", "immediate", "stop")

    def _call(self, program: str, *arguments: str | Path) -> None:
        command = [*self._user, str(self._bin / program), *map(str, arguments)]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Not below pytest's own folder, which is for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        made = PostgreSQL(Path(folder))
        try:
            yield made
        finally:
            made.stop()


def test_postgresql_stopped_and_started_again_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql() as database:
        point_at(database.uri(), monkeypatch)
        errors = train_without(database)
        assert errors.count("does not answer; what is logged is kept in") == 1
        assert "right@" not in errors and "Traceback" not in errors
        require_whole(the_run())
        point_at(database.uri("wrong"), monkeypatch)
        with pytest.raises(UserError, match="refuses the user name or password") as refused:
            connect()
        assert "wrong" not in str(refused.value)


def test_postgresql_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    awkward = "p@ss w#rd?1%ü"
    with postgresql() as database:
        uri = database.uri()
        with psycopg.connect(uri) as connection:
            connection.execute(f"alter user emd password '{awkward}'")
        for wrong, reason in (
            (database.uri("p@ss w#rd"), "refuses the user name or password"),
            (database.uri(awkward).replace("/postgres", "/absent"), "has no such database; create it"),
        ):
            point_at(wrong, monkeypatch)
            with pytest.raises(UserError, match=reason) as refused:
                connect()
            assert "w#rd" not in str(refused.value) and "ss w" not in str(refused.value)
        point_at(database.uri(awkward), monkeypatch)
        assert connect() == f"postgresql://127.0.0.1:{database.port}/postgres"


def test_postgresql_behind_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql() as database:
        server = mlflow_server(tmp_path, database.uri())
        point_at(f"http://127.0.0.1:{server.port}", monkeypatch)
        server.start()
        try:
            train_without(database)
            require_whole(the_run())
        finally:
            server.kill()


def train_without(database: PostgreSQL) -> str:
    """A training from whose first step to the 30th the database is away; what it says."""
    training = start_training()
    wait_until(lambda: Path("steps").exists() or training.poll() is not None, "the first step")
    database.stop()
    wait_until(waits, "step 30, without a database")
    time.sleep(delivery.PERIOD * 2)  # so that it has tried
    database.start()
    return end(training)
