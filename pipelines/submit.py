"""Compile (or take) a package, upload it as a new version, start a run, and wait for its end if asked."""

import sys
import time
from typing import Annotated, Any

import typer

from emd_core.errors import UserError
from pipelines.package import package_file
from pipelines.parameters import typed_parameters
from pipelines.server import options
from pipelines.server.client import Server, ServerError, reference
from pipelines.status import ENDED, failures, stages, stopped

PATIENCE = 5  # failed looks in a row: a run of days outlives a restart of the server


def submit(
    package: options.Package = None,
    image: options.Image = "",
    params: options.ParamsFile = None,
    dag: options.Dag = "emd",
    set: options.Changes = None,
    cluster: options.Cluster = options.CLUSTER,
    pool: options.Pools = None,
    parameter: options.Parameters = None,
    version_name: options.VersionName = "",
    experiment: options.Experiment = "emd",
    run_name: Annotated[str, typer.Option(help="Default: pipeline and version.")] = "",
    cache: options.Cache = True,
    service_account: options.ServiceAccount = "",
    wait: Annotated[bool, typer.Option("--wait", help="Print the stages' states; exit 1 unless it succeeds.")] = False,
    poll: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.01)] = 10.0,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most; the run itself goes on.")] = float("inf"),
    endpoint: options.Endpoint = "",
    namespace: options.Namespace = "",
) -> None:
    """Run the pipeline on Kubeflow and print the run's URL."""
    with package_file(package, image, params, dag, set, cluster, pool, cache) as (file, spec):
        values = typed_parameters(spec, parameter)
        server = Server(endpoint, namespace)
        version = server.upload(file, spec.pipeline_info.name, version_name or options.default_version_name())
    print(f"uploaded version {version.display_name} of pipeline {spec.pipeline_info.name}")
    try:
        settings = reference(version, server.experiment_id(experiment), values, service_account)
        run = server.start_run(run_name or f"{spec.pipeline_info.name} {version.display_name}", **settings)
    except ServerError as error:
        uploaded = f"version {version.display_name} is uploaded, but its run was not seen to start"
        raise UserError(f"{uploaded}: {error}") from None
    print(f"run {run.run_id}: {server.run_url(run.run_id)}", flush=True)
    if wait:
        _wait(server, run.run_id, poll, timeout)


def _wait(server: Server, run_id: str, poll: float, timeout: float) -> None:
    """Print each stage's state as it changes; typer.Exit(1) unless the run succeeds, UserError when time is up."""
    deadline = time.monotonic() + timeout
    said: set[str] = set()
    while True:
        run = _look(server, run_id, poll)
        for line in [f"{s.state:<9}  {s.name} {s.shards}".rstrip() for s in stages(run)] + [stopped(run)]:
            if line and line not in said:
                said.add(line)
                print(line, flush=True)
        if run.state in ENDED:
            break
        if time.monotonic() > deadline:
            again = f"it goes on; look again with `python -m pipelines status {run_id}`"
            raise UserError(f"run {run_id} is still {run.state} after {timeout:g} s; {again}.")
        time.sleep(poll)
    print(f"run {run_id} ended {run.state}", flush=True)
    if run.state != "SUCCEEDED":
        print(f"error: run {run_id} ended {run.state}{failures(run)}; see {server.run_url(run_id)}", file=sys.stderr)
        raise typer.Exit(1)


def _look(server: Server, run_id: str, poll: float) -> Any:
    """The run; a server that is away for a while is asked again."""
    for attempt in range(1, PATIENCE + 1):
        try:
            return server.run(run_id)
        except ServerError as error:
            if attempt == PATIENCE or 0 < error.status < 500:
                raise UserError(f"run {run_id} goes on, but its state is not known: {error}") from None
            print(f"no answer ({error}); asking again", file=sys.stderr, flush=True)
            time.sleep(poll)
    raise AssertionError("the last attempt returns or raises")
