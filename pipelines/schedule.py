"""Run the pipeline on a schedule; a schedule of the same name is replaced."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emd_core.errors import UserError
from pipelines.package import package_file
from pipelines.parameters import typed_parameters
from pipelines.server import options
from pipelines.server.client import Server, ServerError, reference


def schedule(
    cron: Annotated[str, typer.Option(help="When, as in crontab: '0 3 * * 1', in the cluster's time zone.")] = "",
    name: Annotated[str, typer.Option(help="Name of the schedule.")] = "emd",
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
    max_concurrency: Annotated[int, typer.Option(help="Runs at the same time.", min=1, max=10)] = 1,
    catchup: Annotated[bool, typer.Option("--catchup", help="Make up for times that were missed.")] = False,
    cache: options.Cache = True,
    service_account: options.ServiceAccount = "",
    show: Annotated[bool, typer.Option("--list", help="List the schedules and do nothing else.")] = False,
    delete: Annotated[str, typer.Option(metavar="NAME", help="Delete that schedule and do nothing else.")] = "",
    endpoint: options.Endpoint = "",
    namespace: options.Namespace = "",
) -> None:
    """Run the pipeline on Kubeflow at set times."""
    if show or delete:
        server = Server(endpoint, namespace)
        return _delete(server, delete) if delete else _list(server)
    expression = _seconds_first(cron)
    with package_file(package, image, params, dag, set, cluster, pool, cache) as (file, spec):
        values = typed_parameters(spec, parameter)
        server = Server(endpoint, namespace)
        version = server.upload(file, spec.pipeline_info.name, version_name or options.default_version_name())
    print(f"uploaded version {version.display_name} of pipeline {spec.pipeline_info.name}")
    try:
        # The API cannot change a schedule; the old one goes after the new one is there.
        old = server.schedules(name)
        server.create_schedule(
            name,
            trigger={"cron_schedule": {"cron": expression}},
            max_concurrency=str(max_concurrency),
            no_catchup=not catchup,
            **reference(version, server.experiment_id(experiment), values, service_account),
        )
    except ServerError as error:
        uploaded = f"version {version.display_name} is uploaded, but schedule {name} was not seen to change"
        raise UserError(f"{uploaded}: {error}") from None
    try:
        for schedule in old:
            server.delete_schedule(schedule)
    except ServerError as error:
        raise UserError(f"schedule {name} is there, but the one that it replaces is too: {error}") from None
    print(f"schedule {name} runs at '{cron}'" + (f", replacing {len(old)}" if old else ""))


def _seconds_first(cron: str) -> str:
    """Kubeflow's cron has seconds in front of crontab's five fields; @daily and @every 6h pass as they are."""
    fields = cron.split()
    if not fields:
        raise UserError("--cron is missing; give five fields as in crontab, such as '0 3 * * 1'.")
    if cron.startswith("@") or len(fields) == 6:
        return cron
    if len(fields) != 5:
        raise UserError(f"--cron '{cron}' has {len(fields)} fields; give five as in crontab, such as '0 3 * * 1'.")
    return f"0 {cron}"


def _delete(server: Server, name: str) -> None:
    found = server.schedules(name)
    if not found:
        raise UserError(f"{server.endpoint} has no schedule {name}; `python -m pipelines schedule --list` lists them.")
    for schedule in found:
        server.delete_schedule(schedule)
    print(f"deleted schedule {name}; runs that it started go on")


def _list(server: Server) -> None:
    table = Table(title=f"Schedules at {server.endpoint}")
    for title in ("name", "cron (seconds first)", "state", "at once"):
        table.add_column(title, no_wrap=True)
    for schedule in server.schedules():
        cron = schedule.trigger.cron_schedule
        table.add_row(schedule.display_name, cron.cron if cron else "", schedule.status, schedule.max_concurrency)
    Console(width=max(120, Console().width)).print(table)
