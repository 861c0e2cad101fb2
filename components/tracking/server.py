"""Which MLflow a stage talks to, and that it answers: who cannot log is told so before the work is done."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from emd_core.errors import UserError

SQLITE = "sqlite:///"
# A server that is away shall not hold a stage up for minutes: what it misses is kept and sent again.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "PGCONNECT_TIMEOUT": "5",
}


def connect() -> str:
    """Point MLflow at MLFLOW_TRACKING_URI, else at mlflow.db in the working directory; its address, see `address`.

    Raises UserError where nothing answers or the credentials are refused.
    """
    for variable, value in IMPATIENT.items():
        os.environ.setdefault(variable, value)
    import mlflow

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"{SQLITE}mlflow.db")
    uri = mlflow.get_tracking_uri()
    with answering(uri):
        if re.match(r"(postgresql|mysql|mssql)\b", uri):  # MLflow itself would try ten times, for two minutes
            import sqlalchemy

            sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()
        mlflow.MlflowClient().search_experiments(max_results=1)
    return address(uri)


def address(uri: str) -> str:
    """The URI without a user's name and password."""
    return re.sub(r"(?<=//)[^/@]*@", "", uri)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """What MLflow raises in the block as a UserError of one sentence."""
    import requests
    import sqlalchemy.exc
    from mlflow import MlflowException

    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, requests.RequestException, ImportError) as error:
        reason = " ".join(str(error).split())
        if re.search(r"\b40[13]\b|not authenticated|authentication failed|permission denied", reason, re.IGNORECASE):
            what = "refuses the user name or password"
            remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (a database: those in the URI)"
        else:
            what, remedy = "does not answer", "start it, or set MLFLOW_TRACKING_URI to one that runs"
        raise UserError(f"MLflow at {address(uri)} {what}; {remedy} ({address(reason)[:300]}).") from error
