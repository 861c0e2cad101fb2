"""Each way in which a server or a store refuses, and what a stage says of it: real servers and real databases."""

import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest

from components.tracking import server
from components.tracking.refusal import explain
from components.tracking.run import stage_run
from components.tracking.server import connect
from emd_core.config import Config
from emd_core.errors import UserError

PAGE = b"<html><h1>Sorry</h1></html>"


class Answer(BaseHTTPRequestHandler):
    """One and the same answer to every request."""

    def answer(self) -> None:
        status, body, headers = self.server.answer  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


class Servers:
    """Started as a test asks for them; all are closed behind it."""

    def __init__(self) -> None:
        self._open: list[ThreadingHTTPServer | socket.socket] = []

    def http(self, status: int, body: bytes = PAGE, tls: Path | None = None, **headers: str) -> int:
        """The port of a server that answers so."""
        made = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        made.answer = (status, body, headers)  # type: ignore[attr-defined]
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            made.socket = context.wrap_socket(made.socket, server_side=True)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        self._open.append(made)
        return int(made.server_address[1])

    def greeting(self, text: bytes) -> int:
        """The port of a service of another kind, which speaks first."""
        made = socket.create_server(("127.0.0.1", 0))
        self._open.append(made)

        def greet() -> None:
            while True:
                try:
                    client, _ = made.accept()
                except OSError:
                    return
                with client:
                    client.sendall(text)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1 << 16)  # what is closed unread is reset, and the greeting may be lost

        threading.Thread(target=greet, daemon=True).start()
        return int(made.getsockname()[1])

    def close(self) -> None:
        for made in self._open:
            if isinstance(made, ThreadingHTTPServer):
                made.shutdown()
                made.server_close()
            else:
                made.close()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    made = Servers()
    yield made
    made.close()


def refusal(uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError) as refused:
        connect()
    said = str(refused.value)
    assert "\n" not in said and said.endswith(").") and len(said) < 600 and "<h1>" not in said
    return said


@pytest.mark.parametrize(
    ("status", "reason", "remedy"),
    [
        (301, "answers with a page that is not MLflow's", "correct MLFLOW_TRACKING_URI"),
        (401, "refuses the user name or password", "set MLFLOW_TRACKING_USERNAME"),
        (403, "does not permit this", "ask its administrator"),
        (404, "has nothing at the path", "correct the path"),
        (407, "is asked through a proxy", "NO_PROXY"),
        (413, "refuses so large a request", "client_max_body_size"),
        (429, "is asked too often", "wait"),
        (500, "fails at what it is asked (500)", "look into its log"),
        (502, "is not reached by the proxy", "start the server behind"),
        (503, "is not reached by the proxy", "start the server behind"),
        (200, "answers with a page that is not MLflow's", "MLFLOW_TRACKING_TOKEN"),
    ],
)
def test_what_a_server_answers(
    servers: Servers, status: int, reason: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(f"http://me:geheim@127.0.0.1:{servers.http(status)}", monkeypatch)
    assert reason in said and remedy in said and "does not answer" not in said and "geheim" not in said


def test_mlflows_own_words_of_a_permission(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"error_code": "PERMISSION_DENIED", "message": "not yours"}'
    assert "does not permit this to that user" in refusal(f"http://127.0.0.1:{servers.http(403, body)}", monkeypatch)
    body = b"Invalid Host header - possible DNS rebinding attack detected"
    assert "--allowed-hosts" in refusal(f"http://127.0.0.1:{servers.http(403, body)}", monkeypatch)


def test_certificates_and_schemes(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", own, "-out", tmp_path / "c.pem"], check=True, capture_output=True)
    own.write_text(own.read_text() + (tmp_path / "c.pem").read_text())
    port = servers.http(200, b"{}", tls=own)
    assert "certificate that is not trusted here; set MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal(
        f"https://127.0.0.1:{port}", monkeypatch
    )
    assert "write https://" in refusal(f"http://127.0.0.1:{port}", monkeypatch)
    assert "write http://" in refusal(f"https://127.0.0.1:{servers.http(200)}", monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "c.pem"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://127.0.0.1:{port}")
    assert connect() == f"https://127.0.0.1:{port}"  # the remedy helps
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "gone.pem"))
    assert "the file of certificates is missing" in refusal(f"https://127.0.0.1:{port}", monkeypatch)


def test_an_installation_below_a_path_that_alembic_cannot_read() -> None:
    """A Jenkins workspace of the branch feature/x lies in …/emd_feature%2Fx, its .venv too."""
    error = ValueError("invalid interpolation syntax in '/ci/emd_feature%2Fx/.venv/lib/mlflow' at position 15")
    assert "make the environment (.venv) in a folder without it" in explain(error, "sqlite:///mlflow.db")


def test_addresses_of_something_else(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "another service than MLflow" in refusal(f"http://127.0.0.1:{servers.greeting(b'SSH-2.0-x')}", monkeypatch)
    port = servers.greeting(b"SSH-2.0-x")
    assert "another service than MLflow" in refusal(f"postgresql://me:geheim@127.0.0.1:{port}/runs", monkeypatch)
    assert "does not answer; start it" in refusal("http://127.0.0.1:1", monkeypatch)
    assert "does not answer; start it" in refusal("postgresql://me:ge@heim@127.0.0.1:1/runs", monkeypatch)
    assert "host that is not known here" in refusal("http://no-such-host.invalid:5000", monkeypatch)
    for wrong in ("localhost:5000", "htp://host", "http://127.0.0.1:5000x", "sqlite://mlflow.db", "postgres://a:b@c/d"):
        assert "address that MLflow does not read; write http://host:5000" in refusal(wrong, monkeypatch)
    assert "without http://" in refusal("127.0.0.1:5000", monkeypatch)
    assert "needs a package that is not installed" in refusal("mysql://me:geheim@127.0.0.1:1/runs", monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, to be copied and spoilt."""
    database = tmp_path_factory.mktemp("store") / "whole.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        connect()
    return database


@pytest.fixture
def database(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "mlflow.db"))


def change(database: Path, *statements: str) -> None:
    with sqlite3.connect(database) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "reason", "remedy"),
    [
        (
            ["update alembic_version set version_num = 'bd07f7e963c5'"],
            "an older MLflow than",
            "mlflow db upgrade sqlite",
        ),
        (["update alembic_version set version_num = 'ffffffffffff'"], "a newer MLflow than", "install that version"),
        (
            ["drop table spans", "update alembic_version set version_num = 'ffffffffffff'"],
            "a newer MLflow than",
            "install that version",
        ),
        (["delete from alembic_version"], "was left half-made", "move it away"),
    ],
)
def test_databases_of_other_versions(
    database: Path, statements: list[str], reason: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(database, *statements)
    said = refusal(f"sqlite:///{database}", monkeypatch)
    assert reason in said and remedy in said and "Take a backup" not in said


def test_files_that_are_no_database(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{database}"
    database.write_bytes(database.read_bytes()[: 3 * 4096])
    assert "no whole SQLite database; restore it" in refusal(uri, monkeypatch)
    database.write_text("version https://git-lfs.github.com/spec/v1\n" * 30)
    assert "no whole SQLite database; restore it" in refusal(uri, monkeypatch)
    assert "no file that can be opened or made" in refusal(f"sqlite:///{tmp_path}", monkeypatch)
    assert "no file that can be opened or made" in refusal(f"sqlite:///{database}/runs.db", monkeypatch)
    assert "no file that can be opened or made" in refusal("sqlite:////proc/runs.db", monkeypatch)


def test_a_lock_is_waited_for_and_then_named(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    holder.execute("begin exclusive")
    monkeypatch.setattr(server, "LOCKED_SECONDS", 0.2)
    assert "locked by another process; wait" in refusal(f"sqlite:///{database}", monkeypatch)
    monkeypatch.setattr(server, "LOCKED_SECONDS", 30)
    threading.Timer(0.5, lambda: holder.execute("rollback")).start()
    assert connect() == f"sqlite:///{database}"
    holder.close()


def test_a_database_that_can_be_read_only(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(database, "create trigger refuse before insert on runs begin select raise(abort, 'readonly database'); end")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    with pytest.raises(UserError, match="can be read only; permit this user to write"), stage_run("gate", Config(), {}):
        pass


def test_a_deleted_experiment(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    connect()
    client = mlflow.MlflowClient()
    number = client.create_experiment("emd")
    client.delete_experiment(number)
    said = f"emd of MLflow .* was deleted; .* --experiment-id {number}`"
    with pytest.raises(UserError, match=said), stage_run("gate", Config(), {}):
        pass
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")  # the one remedy
    with stage_run("gate", Config(), {}):
        pass
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    client.restore_experiment(number)  # the other one
    with stage_run("gate", Config(), {}):
        pass


def test_what_mlflow_refuses_within_a_stage_is_a_sentence_where_its_reason_is_known(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    with pytest.raises(UserError, match="does not permit this"), stage_run("promote", Config(), {}):
        raise mlflow.MlflowException("PERMISSION_DENIED: not yours")
    with pytest.raises(mlflow.MlflowException, match="our own mistake"), stage_run("promote", Config(), {}):
        raise mlflow.MlflowException("our own mistake")


FIRST = """
from components.command_line.exits import exit_on_user_error
from components.tracking.server import connect
exit_on_user_error(connect)
"""


def test_four_processes_at_once_make_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    started = [subprocess.Popen([sys.executable, "-c", FIRST], cwd=tmp_path) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_one_that_is_killed_on_the_way_leaves_no_half_of_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def killed(*_: object, **__: object) -> None:
        assert list(tmp_path.glob(".mlflow.db.*.partial")) and not (tmp_path / "mlflow.db").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mlflow.MlflowClient, "search_experiments", killed)
        connect()
    assert not (tmp_path / "mlflow.db").exists()
    connect()
    assert (tmp_path / "mlflow.db").exists()
