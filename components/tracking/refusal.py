"""Why MLflow does not do what it is asked: the reason in a sentence, and the remedy that helps against it."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from components.tracking.address import address, hide

LONGEST = 200  # characters of a library's own words that a sentence quotes
UNKNOWN = "refuses what it is asked"
WRITE = "write http://host:5000, sqlite:///mlflow.db or postgresql://user:password@host/database"


class Refusal(NamedTuple):
    said: str  # pattern of what MLflow, its database or the network says
    reason: str  # behind "MLflow at <address>"
    remedy: str


# The first that fits counts. What a proxy or a server says comes first, as its page may hold any word.
REFUSALS = (
    Refusal(
        r"Invalid Host header",
        "refuses this name of its host",
        "start it with --allowed-hosts and that name, or use a name that it allows",
    ),
    Refusal(
        r"plain HTTP request|Client sent an HTTP request to an HTTPS",
        "wants https",
        "write https:// in MLFLOW_TRACKING_URI",
    ),
    Refusal(
        r"error code 401|UNAUTHENTICATED|not authenticated|authentication failed|no password supplied|role \S+ does",
        "refuses the user name or password",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (a database: those in the URI)",
    ),
    Refusal(
        r"error code 407|ProxyError|Tunnel connection failed",
        "is asked through a proxy that refuses",
        "correct HTTP_PROXY and HTTPS_PROXY, or name the server's host in NO_PROXY",
    ),
    Refusal(
        r"error code 403|PERMISSION_DENIED|no pg_hba.conf entry|permission denied for|InsufficientPrivilege",
        "does not permit this to that user",
        "ask its administrator for the permission to write, or set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD to a user who has it",
    ),
    Refusal(
        r"error code 413|Entity Too Large|Content Too Large",
        "refuses so large a request",
        "raise the limit of the proxy before it (nginx: client_max_body_size)",
    ),
    Refusal(
        r"error code 40[45]|ENDPOINT_NOT_FOUND|'detail': 'Not Found'",
        "has nothing at the path that was asked for",
        "correct the path in MLFLOW_TRACKING_URI, or update a server that is older than MLflow 3",
    ),
    Refusal(
        r"\b429 error|error code 429", "is asked too often", "wait and start again, or raise its limit of requests"
    ),
    Refusal(
        r"\b50[234] error|error code 50[234]",
        "is not reached by the proxy before it",
        "start the server behind that proxy, or wait until it has started",
    ),
    Refusal(
        r"\b500 error|error code 500|INTERNAL_ERROR: ",
        "fails at what it is asked (500)",
        "look into its log; after an update of MLflow its database wants `mlflow db upgrade`",
    ),
    Refusal(
        r"error code 3\d\d|TooManyRedirects|valid JSON format|JSONDecodeError",
        "answers with a page that is not MLflow's, such as a login or a proxy's",
        "correct MLFLOW_TRACKING_URI, or set MLFLOW_TRACKING_TOKEN if it wants one",
    ),
    Refusal(
        r"certificate bundle|invalid path: ",
        "cannot be asked, as the file of certificates is missing",
        "correct MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE",
    ),
    Refusal(
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|CertificateError",
        "shows a certificate that is not trusted here",
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of its authority, and use the host's name that it names",
    ),
    Refusal(
        r"\[SSL: (WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|HTTP_REQUEST|RECORD_LAYER_FAILURE|PACKET_LENGTH)",
        "does not speak https",
        "write http:// in MLFLOW_TRACKING_URI",
    ),
    Refusal(
        r"BadStatusLine|InvalidHeader|expected authentication request|invalid response to SSL|LineTooLong",
        "is another service than MLflow",
        "correct the port in MLFLOW_TRACKING_URI",
    ),
    Refusal(
        r"resolve host|NameResolution|Name or service not known|nodename nor servname|Temporary failure in name",
        "has a host that is not known here",
        "correct its name in MLFLOW_TRACKING_URI, or join the network that knows it",
    ),
    Refusal(
        r'database "[^"]*" does not exist|Unknown database|InvalidCatalogName',
        "has no such database",
        "create it (`createdb`), or correct its name in MLFLOW_TRACKING_URI",
    ),
    Refusal(
        r"invalid interpolation syntax",
        'makes no tables while MLflow is installed below a path with "%"',
        "make the environment (.venv) in a folder without it",
    ),
    Refusal(
        r"No module named",
        "needs a package that is not installed",
        "install the database's driver, or set MLFLOW_TRACKING_URI to http://, sqlite:/// or postgresql://",
    ),
    Refusal(
        r"database is locked|database table is locked",
        "is locked by another process",
        "wait until that has written, or end it, and start again",
    ),
    Refusal(
        r"readonly database|read-only|Read-only",
        "can be read only",
        "permit this user to write the file and its folder, or set MLFLOW_TRACKING_URI to another store",
    ),
    Refusal(
        r"is full|No space left|disk I/O error",
        "cannot be written",
        "free some space on its disk, and start again",
    ),
    Refusal(
        r"unable to open database file|FileExistsError|NotADirectoryError|PermissionError|FileNotFoundError",
        "is no file that can be opened or made",
        "correct the path, permit this user to write there, or set MLFLOW_TRACKING_URI to another store",
    ),
    Refusal(
        r"file is not a database|malformed|file is encrypted",
        "is no whole SQLite database",
        "restore it from a copy, or move it away and a new one is made",
    ),
    Refusal(
        r"already exists|no such table|no such column|duplicate column|DuplicateTable|UndefinedTable",
        "was left half-made",
        "restore it from a copy, or move it away and a new one is made",
    ),
    Refusal(
        r"filesystem tracking backend",
        "is a folder, as which MLflow reads an address without http://, and folders hold no runs any more",
        f"{WRITE}; `mlflow migrate-filestore` moves the runs of a folder into a database",
    ),
    Refusal(
        r"[Uu]nsupported|Invalid url|InvalidURL|ArgumentError|NoSuchModuleError|Invalid IPv6|Could not parse",
        "has an address that MLflow does not read",
        WRITE,
    ),
    Refusal(
        r"must be in the '\w+' state|Run with id=|Run '\w+' not found|no run with",
        "no longer has that run",
        "unset MLFLOW_RUN_ID if you set it, else start the stage again",
    ),
    Refusal(
        r"deleted experiment|experiment must be in|No Experiment with id|Experiment .* does not exist",
        "no longer has that experiment",
        "restore it (`mlflow experiments restore`), or set MLFLOW_EXPERIMENT_NAME to another",
    ),
    Refusal(
        r"Connection aborted|ConnectionReset|RemoteDisconnected",
        "breaks the connection off",
        "write https:// if it wants that, and correct the port if it is another service",
    ),
    Refusal(
        r"Connection ?[Rr]efused|[Tt]ime(d )?out|[Uu]nreachable|No route to host|Max retries exceeded|"
        r"terminating connection|closed the connection|server closed|shutting down|starting up|connection is closed|"
        r"connection failed|AdminShutdown|Lost connection|too many (clients|connections)|connection slots",
        "does not answer",
        "start it, or set MLFLOW_TRACKING_URI to one that runs",
    ),
    Refusal(r"", UNKNOWN, "mend what it names, or look into its log"),
)
SCHEMA = re.compile(r"found version (\w+), but|Can't locate revision identified by '(\w+)'")


def explain(error: BaseException, uri: str) -> tuple[str, str, str]:
    """The reason, the remedy, and the library's own words, which hold no secret."""
    chain = list(_chain(error))
    everything = " ".join(f"{type(e).__name__}: {e}" for e in chain)
    said = _core(hide(_quotable(chain), uri))
    if schema := SCHEMA.search(everything):
        return *_schema(schema[1] or schema[2], uri), said
    found = next(r for r in REFUSALS if re.search(r.said, everything))
    return found.reason, found.remedy, said


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _quotable(chain: list[BaseException]) -> str:
    """The words of the innermost error; an AttributeError or the like says nothing to who has not the code."""
    told = [e for e in chain if not isinstance(e, (AttributeError, LookupError)) and str(e)]
    return str((told or chain)[-1])


def _core(said: str) -> str:
    """Without a page's HTML, and without MLflow's advice, as the remedy stands before it."""
    said = re.sub(r"( ?Response body: '\s*<|\. Take a backup of your|\. Please migrate to).*", "", said).rstrip(" .")
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}…"


def _schema(found: str, uri: str) -> tuple[str, str]:
    """Of a database whose tables another version of MLflow made: reason and remedy."""
    import mlflow
    from mlflow.store import db_migrations

    if found == "None":
        return "was left half-made", "restore it from a copy, or move it away and a new one is made"
    known = os.path.join(os.path.dirname(str(db_migrations.__file__)), "versions")
    if any(name.startswith(f"{found}_") for name in os.listdir(known)):
        store = address(uri) if uri.startswith("sqlite:") else '"$MLFLOW_TRACKING_URI"'
        return (
            f"was made by an older MLflow than {mlflow.__version__}",
            f"copy it, then run `mlflow db upgrade {store}`",
        )
    return (
        f"was made by a newer MLflow than {mlflow.__version__}",
        "install that version or a newer one, or set MLFLOW_TRACKING_URI to another store",
    )
