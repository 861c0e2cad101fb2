"""Go back to the champion before this one: `python -m components rollback`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.registry.versions import CHAMPION, PREVIOUS, held, marked, who
from components.tracking.server import answering, connect
from emd_core.config import read_params
from emd_core.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

AT, BY, TO = "rolled_back_at", "rolled_back_by", "rolled_back_to"  # tags of the version that was left


def rollback(
    model_name: Annotated[
        str, typer.Option(help="Name in the registry; if empty, promote.model_name of the params file.")
    ] = "",
    params: Annotated[Path, typer.Option(help="Params file that names the model.")] = Path("params.yaml"),
) -> None:
    """Make the registered model's `previous` its `champion`, and the one that is left its `previous`.

    Doing it twice ends where it began. What was rolled back is not promoted again until it is rolled forward or its
    tag rolled_back_at is removed.
    """
    import mlflow

    name = model_name or read_params(params).get("promote", {}).get("model_name")
    if not name:
        raise UserError(f"{params} names no promote.model_name; add it or pass --model-name.")
    connect()
    with answering(mlflow.get_tracking_uri()):
        champion, left = restore(mlflow.MlflowClient(), name)
    print(f"rolled back: {name} version {champion} is now @{CHAMPION}, version {left} is @{PREVIOUS}")


def restore(client: "MlflowClient", name: str) -> tuple[str, str]:
    """Exchange champion and previous; their new versions.

    The version that is left is tagged first, so that a call which was killed half-way is finished by the next one.
    """
    if held(client, name, CHAMPION) is None:
        raise UserError(f"{name} has no champion in the registry, so there is nothing to roll back; check the name.")
    with marked(client, name) as mark:
        champion, previous = held(client, name, CHAMPION), held(client, name, PREVIOUS)
        if champion is None or previous is None:
            raise UserError(f"{name} has no version with alias {PREVIOUS}, so there is nothing to roll back to.")
        if previous.version != champion.version:
            restored, left = previous, str(champion.version)
            tags = {AT: datetime.now(UTC).isoformat(timespec="seconds"), BY: who(), TO: str(restored.version)}
            for key, value in tags.items():
                client.set_model_version_tag(name, left, key, value)
            mark.require_fresh()
            client.set_registered_model_alias(name, CHAMPION, str(restored.version))
        else:
            restored, left = champion, _left_half_way(client, name, str(champion.version))
        client.set_registered_model_alias(name, PREVIOUS, left)
        for key in {AT, BY, TO} & restored.tags.keys():
            client.delete_model_version_tag(name, str(restored.version), key)
    return str(restored.version), left


def _left_half_way(client: "MlflowClient", name: str, champion: str) -> str:
    """The version from which a call that was killed went back to the champion."""
    versions = client.search_model_versions(f"name = '{name}' and tag.`{TO}` = '{champion}'")
    if not versions:
        raise UserError(
            f"{name} version {champion} is both {CHAMPION} and {PREVIOUS}, as a promotion was broken off, so there is "
            "nothing to roll back to; repeat the promotion."
        )
    return str(max(versions, key=lambda version: version.tags[AT]).version)
