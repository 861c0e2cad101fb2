"""Kubeflow Pipelines' REST API through kfp.Client, with time limits and one sentence for each failure."""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kfp
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiException
from kfp_server_api import models as api

from emd_core.errors import UserError

TIMEOUT = (5, 60)  # seconds: to connect (urllib3 tries four times), to answer
PORT_FORWARD = "`kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`"


class ServerError(UserError):
    """The server is out of reach (status 0) or refused a request (its HTTP status)."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class _Client(kfp.Client):
    """kfp's own asks five times with five seconds between and prints each traceback."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        return self._healthz_api.healthz_service_get_healthz(_request_timeout=TIMEOUT)


class Server:
    """A Kubeflow Pipelines server.

    kfp.Client finds namespace, cookie and token: `~/.config/kfp/context.json`, and the token file that
    KF_PIPELINES_SA_TOKEN_PATH names (in a pod: the projected service-account token). The requests go through the
    generated API below it, since kfp.Client's own methods know no time limit and print links of their own.

    Raises: UserError without an endpoint or token; ServerError when the server is out of reach or refuses.
    """

    def __init__(self, endpoint: str, namespace: str = "") -> None:
        if not endpoint:
            example = f"such as http://localhost:8080 after {PORT_FORWARD}"
            raise UserError(f"no server is named; set KF_PIPELINES_ENDPOINT or --endpoint, {example}.")
        self.endpoint = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
        with warnings.catch_warnings(), self._explained("reach the server"):
            warnings.simplefilter("ignore")  # that kfp 2 is not kfp 1
            self._client = _Client(
                host=self.endpoint,
                namespace=namespace or "kubeflow",  # kfp's word for "none given"
                credentials=_credentials(),
                ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
            )
        self.namespace = namespace or self._client.get_user_namespace() or None

    def pipeline_id(self, name: str) -> str | None:
        """Id of the pipeline of that name; None if there is none."""
        method = self._client.pipelines.pipeline_service_list_pipelines
        found = self._call("list the pipelines", method, filter=_named(name), **self._scope())
        return found.pipelines[0].pipeline_id if found.pipelines else None

    def upload(self, package: Path, pipeline: str, version: str) -> Any:
        """Upload a package as a new version of the pipeline, which is created if it is not there."""
        pipeline_id = self.pipeline_id(pipeline)
        if pipeline_id is None:
            body = api.V2beta1Pipeline(display_name=pipeline, namespace=self.namespace)
            create = self._client.pipelines.pipeline_service_create_pipeline
            pipeline_id = self._call(f"create the pipeline {pipeline}", create, pipeline=body).pipeline_id
        upload = self._client.pipeline_uploads.upload_pipeline_version
        what = f"upload version {version} of pipeline {pipeline}"
        try:
            return self._call(what, upload, uploadfile=str(package), name=version, pipelineid=pipeline_id)
        except ServerError as error:
            if error.status != 409:
                raise
            taken = f"pipeline {pipeline} has a version {version} already; give another --version-name."
            raise ServerError(taken, 409) from None

    def experiment_id(self, name: str) -> str:
        """Id of the experiment of that name, which is created if it is not there."""
        method = self._client.experiments.experiment_service_list_experiments
        found = self._call("list the experiments", method, filter=_named(name), **self._scope())
        if found.experiments:
            return str(found.experiments[0].experiment_id)
        body = api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        create = self._client.experiments.experiment_service_create_experiment
        return str(self._call(f"create the experiment {name}", create, experiment=body).experiment_id)

    def start_run(self, name: str, **settings: Any) -> Any:
        """Start a run; `settings` are `reference`'s."""
        body = api.V2beta1Run(display_name=name, **settings)
        return self._call(f"start the run {name}", self._client.runs.run_service_create_run, run=body)

    def run(self, run_id: str) -> Any:
        """The run with its tasks."""
        try:
            return self._call(f"read the run {run_id}", self._client.runs.run_service_get_run, run_id=run_id)
        except ServerError as error:
            if error.status != 404:
                raise
            where = f"{self.endpoint} has no run {run_id}"
            raise ServerError(f"{where}; `python -m pipelines status` lists the last ones.", 404) from None

    def last_runs(self, number: int) -> list[Any]:
        """The last runs, newest first."""
        method = self._client.runs.run_service_list_runs
        page = {"page_size": number, "sort_by": "created_at desc"}
        return self._call("list the runs", method, **page, **self._scope()).runs or []

    def schedules(self, name: str = "") -> list[Any]:
        """The recurring runs, or those of that name."""
        method = self._client.recurring_runs.recurring_run_service_list_recurring_runs
        page = {"page_size": 200} | ({"filter": _named(name)} if name else {})
        return self._call("list the schedules", method, **page, **self._scope()).recurring_runs or []

    def create_schedule(self, name: str, **settings: Any) -> Any:
        """Create a recurring run; `settings` are `reference`'s and V2beta1RecurringRun's."""
        method = self._client.recurring_runs.recurring_run_service_create_recurring_run
        body = api.V2beta1RecurringRun(display_name=name, mode="ENABLE", **settings)
        return self._call(f"create the schedule {name}", method, recurring_run=body)

    def delete_schedule(self, schedule: Any) -> None:
        method = self._client.recurring_runs.recurring_run_service_delete_recurring_run
        what = f"delete the schedule {schedule.display_name} ({schedule.recurring_run_id})"
        self._call(what, method, recurring_run_id=schedule.recurring_run_id)

    def run_url(self, run_id: str) -> str:
        """The run's page in the UI; KF_PIPELINES_UI_ENDPOINT where it is not at the endpoint itself."""
        return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT', self.endpoint).rstrip('/')}/#/runs/details/{run_id}"

    def _scope(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _call(self, what: str, method: Callable[..., Any], **arguments: Any) -> Any:
        with self._explained(what):
            answer = method(**arguments, _request_timeout=TIMEOUT)
        # A log-in page or the UI's start page comes with status 200, and kfp would read it as an empty answer.
        headers = method.__self__.api_client.last_response.urllib3_response.headers  # type: ignore[attr-defined]
        if "html" in headers.get("content-type", ""):
            remedy = "log in (token or cookie) or mend the address, which ends before /apis/v2beta1"
            raise ServerError(f"cannot {what}: {self.endpoint} answers with a web page; {remedy}.", 404)
        return answer

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise ServerError(f"cannot {what}: {self._reason(error)}", error.status or 0) from None
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
                reason = f"{self.endpoint} gave no answer within {TIMEOUT[1]} s; `status` shows whether it was done."
            else:
                why = _brief(cause).rpartition("): ")[2]  # without the connection object that urllib3 puts first
                reason = f"{self.endpoint} is out of reach ({why}); mend the address, or forward it: {PORT_FORWARD}."
            raise ServerError(f"cannot {what}: {reason}", 0) from None

    def _reason(self, error: ApiException) -> str:
        said = _message(error.body)
        if not error.status:
            return f"{self.endpoint} is out of reach ({_brief(error.reason)})."
        if error.status in (401, 403):
            remedy = (
                f"name a file with a valid token in {KF_PIPELINES_SA_TOKEN_ENV}, or ask for rights in the namespace"
            )
            return f"{self.endpoint} refuses who asks ({error.status}{said}); {remedy}."
        if error.status == 404 and said in ("", ": Not Found"):
            remedy = "mend the address, which ends before /apis/v2beta1, or update Kubeflow Pipelines to 2.x"
            return f"{self.endpoint} has no Kubeflow Pipelines API v2beta1 (404); {remedy}."
        if error.status >= 500:
            remedy = "`kubectl logs -n kubeflow deploy/ml-pipeline` says why"
            return f"{self.endpoint} failed ({error.status}{said}); {remedy}."
        return f"{self.endpoint} refuses it ({error.status}{said})."


def reference(version: Any, experiment_id: str, parameters: dict[str, Any], service_account: str) -> dict[str, Any]:
    """What a run and a recurring run have in common: which version, with which values, where and as whom."""
    return {
        "pipeline_version_reference": api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
        ),
        "experiment_id": experiment_id,
        "runtime_config": api.V2beta1RuntimeConfig(parameters=parameters),
        "service_account": service_account or None,
    }


def _credentials() -> ServiceAccountTokenVolumeCredentials | None:
    named = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    if named and not Path(named).is_file():
        raise UserError(f"{KF_PIPELINES_SA_TOKEN_ENV} names {named}, which does not exist; write the token there.")
    if named or Path(KF_PIPELINES_SA_TOKEN_PATH).is_file():
        return ServiceAccountTokenVolumeCredentials()
    return None


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _message(body: Any) -> str:
    """ ": what the server said", from a gateway's or from the upload's kind of error; "" if that is no JSON."""
    try:
        said = json.loads(body or "")
        text = said.get("message") or said.get("error_message") or said.get("error") or ""
    except (ValueError, AttributeError):
        return ""
    return f": {_brief(text)}" if text else ""


def _brief(text: object) -> str:
    return " ".join(str(text).split())[:300].rstrip(". ")
