"""Which MLflow a stage talks to, and that it answers: who cannot log is told so before the work is done."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from components.tracking.address import address, credentials, encoded
from components.tracking.refusal import UNKNOWN, explain
from emd_core.errors import UserError

SQLITE = "sqlite:///"
# A server that is away shall not hold a stage up for minutes: what it misses is kept and sent again.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "PGCONNECT_TIMEOUT": "5",
}
LOCKED_SECONDS = 20  # to wait for another process's lock on a SQLite database, as MLflow itself does later
# They print a traceback, or a line, for each try.
NOISY = ("mlflow.store.db.utils", "urllib3.connectionpool")


def connect() -> str:
    """Point MLflow at MLFLOW_TRACKING_URI, else at mlflow.db in the workspace; its address, see `address`.

    Raises UserError where nothing answers or the credentials are refused.
    """
    for variable, value in IMPATIENT.items():
        os.environ.setdefault(variable, value)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import mlflow
    from mlflow.store.db.db_types import DATABASE_ENGINES

    uri = _sign_in(encoded(os.environ.get("MLFLOW_TRACKING_URI", "").strip() or _workspace_store()))
    mlflow.set_tracking_uri(uri)
    with answering(uri, ImportError, OSError, ValueError):
        if re.split("[+:]", uri)[0] in DATABASE_ENGINES:
            _open(uri)
        mlflow.MlflowClient().search_experiments(max_results=1)
    return address(uri)


def workspace() -> Path:
    """The folder whose files last: the working directory, or, in the checkout that `dvc exp run --temp` or its queue
    makes below .dvc/tmp and removes with all in it, the one in which the experiment was asked for."""
    here = Path.cwd()
    for folder in here.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return here


@contextmanager
def answering(uri: str, *more: type[Exception]) -> Iterator[None]:
    """What MLflow raises in the block, or an error of another type that is named, as a UserError of one sentence."""
    import requests
    import sqlalchemy.exc
    from alembic.util import CommandError
    from mlflow import MlflowException

    stores = (MlflowException, sqlalchemy.exc.SQLAlchemyError, CommandError, requests.RequestException)
    kinds: tuple[type[Exception], ...] = (*stores, *more)
    try:
        yield
    except kinds as error:
        raise refused(error, uri) from error


def refused(error: Exception, uri: str, otherwise: Exception | None = None) -> Exception:
    """A UserError that says why MLflow refused; `otherwise`, if given, where nobody knows."""
    reason, remedy, said = explain(error, uri)
    if otherwise is not None and reason == UNKNOWN:
        return otherwise
    return UserError(f"MLflow at {address(uri)} {reason}; {remedy} ({said}).")


def store_seen_from(folder: Path) -> str:
    """The address in use, for a process whose working directory is `folder`; a database file gets a link there."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    database = database_file(uri)
    if database is None:
        return uri
    (folder / "mlflow.db").symlink_to(database.resolve())
    return f"{SQLITE}mlflow.db"


def database_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for all else."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri) if uri.startswith("sqlite") else None
    if url is None or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return Path(url.database)


def _workspace_store() -> str:
    """Relative, as no character of a folder's name can then be taken for a part of the address."""
    return f"{SQLITE}{os.path.relpath(workspace() / 'mlflow.db')}"


def _sign_in(uri: str) -> str:
    """A server's address without user name and password, which MLflow then takes from its own variables.

    So they are in no message and no run, and may be of any letters.
    """
    user, password = credentials(uri)
    if not password or not uri.startswith(("http://", "https://")):
        return uri
    os.environ |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    return address(uri)


def _open(uri: str) -> None:
    """Connect to a database, once: MLflow would try ten times, for two minutes. A SQLite database is made first."""
    import sqlalchemy

    if (database := database_file(uri)) is not None:
        _make(database)
    options = {"timeout": LOCKED_SECONDS} if uri.startswith("sqlite") else {}
    with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=options).connect() as connection:
        sqlalchemy.inspect(connection).get_table_names()


def _make(database: Path) -> None:
    """Make a SQLite database whole and then link it to its place: MLflow fills it in for seconds, and of several
    processes that do so in one file, or of one that is killed, a half-made database would remain."""
    import mlflow

    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with _turn(database.parent):
        if database.exists():
            return
        work = database.with_name(f".{database.name}.{uuid4().hex}.partial")
        try:
            work.touch()
            mlflow.MlflowClient(tracking_uri=f"{SQLITE}{work}").search_experiments(max_results=1)
            with suppress(FileExistsError):  # another process was quicker, as there are no locks
                _link(work, database)
        finally:
            work.unlink(missing_ok=True)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process after another, so that only the first makes what it then finds; as many as like elsewhere."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network's file system may know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _link(work: Path, database: Path) -> None:
    """Never in another's place, unless the file system knows no links."""
    try:
        os.link(work, database)
    except FileExistsError:
        raise
    except OSError:
        work.rename(database)
