"""A small Kubeflow Pipelines server: the part of /apis/v2beta1 that the commands use, in memory, on a free port.

Bodies and errors have the shape of the real server's (2.17.0); `recorded` gives runs as one told them. Packages and
parameters are checked as it checks them.
"""

import email
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

NEVER = "0001-01-01T00:00:00Z"
KINDS = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool, "LIST": list}
KINDS["STRUCT"] = dict


class Refusal(Exception):
    """An answer other than 200: status, and JSON (a dict) or a page (a str)."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body if isinstance(body, str) else json.dumps(body)


def refuse(status: int, message: str, code: int = 3) -> Refusal:
    details = [{"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": message}]
    return Refusal(status, {"code": code, "message": message, "details": details})


def node(run_id: str, index: int, name: str, state: str, start: str, end: str, children: list[str]) -> dict[str, Any]:
    """A row of a run's task details; "-" stands for what the server leaves out, which is never the row's message."""
    row: dict[str, Any] = {"run_id": run_id, "task_id": f"{index:03}", "create_time": start, "start_time": start}
    row |= {"end_time": NEVER if end == "-" else end}
    if name == "-":  # the server's own row, of what a task leaves in the cache
        return row | {"execution_id": str(index)}
    row |= {"display_name": name} | ({} if state == "-" else {"state": state})
    return row | ({"child_tasks": [{"pod_name": child} for child in children]} if children else {})


def recorded(name: str) -> dict[str, Any]:
    """A run as a real server told it; kubeflow/<name>.txt: the run, then a line for each row of its details."""
    head, *lines = (Path(__file__).parent / f"kubeflow/{name}.txt").read_text().splitlines()
    state, run_id, created, finished, workflow, display_name = head.split(maxsplit=5)
    day = created[:11]
    rows = []
    for index, line in enumerate(lines):
        start, end, of_row, children, row_name = line.split(maxsplit=4)
        pods = [f"{workflow}-{index}{child}" for child in range(int(children))]
        end = end if end == "-" else f"{day}{end}Z"
        rows.append(node(run_id, index, row_name, of_row, f"{day}{start}Z", end, pods))
    run = {"run_id": run_id, "display_name": display_name, "state": state, "run_details": {"task_details": rows}}
    return run | {"created_at": created, "scheduled_at": created, "finished_at": finished}


class FakeKfp:
    """State and handlers; the tests set `progress`, `faults` and `token`."""

    def __init__(self) -> None:
        self.url = ""
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        # What each look at a run finds: its state and its tasks' states. The last one stays.
        self.progress: list[tuple[str, dict[str, str]]] = [("SUCCEEDED", {})]
        self.faults: dict[str, list[Refusal]] = {}  # "GET /runs" -> answers to give first
        self.token: str | None = None
        self.requests: list[str] = []

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Any:
        url = urlsplit(target)
        path = url.path.removeprefix("/apis/v2beta1")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.requests.append(f"{method} {path}")
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise refuse(401, "Unauthenticated: request is missing a valid token", 16)
        for prefix, refusals in self.faults.items():
            if f"{method} {path}".startswith(prefix) and refusals:
                raise refusals.pop(0)
        if path == "/pipelines/upload_version":
            return self.upload_version(query, headers, body)
        given = json.loads(body) if body else {}
        kind, _, key = path.strip("/").partition("/")
        handlers = {
            ("GET", "healthz"): lambda: {"multi_user": False},
            ("GET", "pipelines"): lambda: self.listed("pipelines", self.pipelines, query),
            ("POST", "pipelines"): lambda: self.stored("pipeline_id", self.pipelines, given),
            ("GET", "experiments"): lambda: self.listed("experiments", self.experiments, query),
            ("POST", "experiments"): lambda: self.stored("experiment_id", self.experiments, given),
            ("GET", "runs"): lambda: self.look(unquote(key)) if key else self.listed("runs", self.runs, query),
            ("POST", "runs"): lambda: self.stored("run_id", self.runs, self.checked(given) | {"state": "PENDING"}),
            ("GET", "recurringruns"): lambda: self.listed("recurringRuns", self.recurring, query),
            ("POST", "recurringruns"): lambda: self.schedule(given),
            ("DELETE", "recurringruns"): lambda: self.recurring.pop(key) and {},
        }
        if (method, kind) not in handlers or not url.path.startswith("/apis/v2beta1/"):
            raise Refusal(404, "404 page not found\n")
        return handlers[method, kind]()

    def listed(self, name: str, table: dict[str, dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        rows = [row for row in table.values() if query.get("namespace", "") == row.get("namespace", "")]
        for predicate in json.loads(query.get("filter", '{"predicates": []}'))["predicates"]:
            assert predicate["operation"] == "EQUALS"
            rows = [row for row in rows if row[predicate["key"]] == predicate["stringValue"]]
        rows = rows[::-1][: int(query.get("page_size", 10))]
        return {name: rows, "total_size": len(rows)} if rows else {}

    def stored(self, key: str, table: dict[str, dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
        if not given.get("display_name"):
            raise refuse(400, "Invalid input error: the name is empty")
        row = given | {key: str(uuid.uuid4()), "created_at": "2025-11-24T08:00:00Z"}
        table[row[key]] = row
        return row

    def upload_version(self, query: dict[str, str], headers: Any, body: bytes) -> dict[str, Any]:
        if query["pipelineid"] not in self.pipelines:
            raise Refusal(400, {"error_message": "Failed to create a pipeline version", "error_details": ""})
        if any(v["display_name"] == query["name"] for v in self.versions.values()):
            raise Refusal(409, {"error_message": "Failed to create a pipeline version", "error_details": ""})
        form = email.message_from_bytes(b"Content-Type: " + headers["content-type"].encode() + b"\r\n\r\n" + body)
        (part,) = form.get_payload()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        documents = list(yaml.safe_load_all(part.get_payload(decode=True)))
        try:
            spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
            json_format.ParseDict(documents[1] if documents[1:] else {}, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise Refusal(400, {"error_message": f"invalid v2 pipeline spec: {error}", "error_details": ""}) from None
        assert spec.schema_version == "2.1.0"
        given = {"pipeline_id": query["pipelineid"], "display_name": query["name"], "pipeline_spec": documents[0]}
        return self.stored("pipeline_version_id", self.versions, given)

    def checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """A run or a recurring run, whose version and experiment exist and whose parameters fit the version."""
        named = given["pipeline_version_reference"]
        version = self.versions.get(named["pipeline_version_id"])
        if version is None or version["pipeline_id"] != named["pipeline_id"]:
            raise refuse(404, "ResourceNotFoundError: PipelineVersion not found", 5)
        if given["experiment_id"] not in self.experiments:
            raise refuse(404, "ResourceNotFoundError: Experiment not found", 5)
        declared = version["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        values = given["runtime_config"].get("parameters", {})
        if set(values) - set(declared):
            raise refuse(400, f"parameter(s) provided are not required by pipeline: {set(values) - set(declared)}")
        for name, parameter in declared.items():
            if name not in values and not parameter.get("isOptional"):
                raise refuse(400, f"parameter {name} is not optional, yet has neither default nor value")
            if name in values and not isinstance(values[name], KINDS[parameter["parameterType"]]):
                raise refuse(400, f"input parameter {name} requires type {parameter['parameterType']}")
        return given

    def schedule(self, given: dict[str, Any]) -> dict[str, Any]:
        cron = given["trigger"]["cron_schedule"]["cron"]
        fields = cron.split()
        if not cron.startswith("@") and (len(fields) != 6 or any(re.search(r"[6-9]\d", field) for field in fields)):
            raise refuse(
                400, f"Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron): {cron}"
            )
        if not 1 <= int(given["max_concurrency"]) <= 10 or given["mode"] != "ENABLE":
            raise refuse(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        return self.stored("recurring_run_id", self.recurring, self.checked(given) | {"status": "ENABLED"})

    def look(self, run_id: str) -> dict[str, Any]:
        """The run, one step on, with the nodes that Argo puts around each task."""
        if run_id not in self.runs:
            raise refuse(404, f"Failed to get a run: ResourceNotFoundError: Run {run_id} not found", 5)
        if "run_details" in self.runs[run_id]:  # recorded
            return self.runs[run_id]
        state, states = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
        self.runs[run_id]["state"] = state
        root = state if state in ("SUCCEEDED", "FAILED") else "RUNNING"
        nodes = [("emd-x7k2p", root), ("root", root), ("root-driver", "SUCCEEDED")]
        for name, of_task in states.items():
            machinery = [] if name.endswith("-driver") else [(f"{name}-driver", "SUCCEEDED"), ("executor", of_task)]
            nodes += [(name, of_task), *machinery]
        details = []
        for name, of_node in nodes:  # each is an attempt too, as the server's templates retry by default
            for attempt in ("", "(0)"):
                index, ended = len(details), of_node in ("SUCCEEDED", "FAILED")
                times = [f"2025-11-24T08:00:{index:02}Z", f"2025-11-24T08:01:{index:02}Z" if ended else "-"]
                details.append(node(run_id, index, name + attempt, of_node, *times, [f"emd-x7k2p-{index}"]))
        details.append(node(run_id, len(details), "-", "-", "2025-11-24T08:00:00Z", "2025-11-24T08:00:01Z", []))
        return self.runs[run_id] | {"finished_at": "1970-01-01T00:00:00Z", "run_details": {"task_details": details}}


@contextmanager
def serve() -> Iterator[FakeKfp]:
    """Run the server until the block ends."""
    fake = FakeKfp()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                status, text = 200, json.dumps(fake.answer(self.command, self.path, self.headers, body))
            except Refusal as refusal:
                status, text = refusal.status, refusal.body
            except Exception as error:  # a request that the real server would not have understood
                status, text = 500, json.dumps({"message": f"fake server: {error!r}"})
            page = "<html" in text
            self.send_response(status)
            self.send_header("content-type", "text/html" if page else "application/json")
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        fake.url = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield fake
        http.shutdown()
