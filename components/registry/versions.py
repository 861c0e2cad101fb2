"""The registered model: which version is in use, and how another one takes its place.

Its aliases: `champion` is in use, `previous` was so before, `challenger` is on trial. A registry has no
compare-and-swap. So whoever moves an alias first writes a mark of its own, a tag of the registered model, and then
looks for others' marks. Of two, the one that wrote second sees the first, whatever their clocks say: who sees another
live mark gives way.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

from pydantic import AfterValidator, ValidationError

from components.tracking.provenance import user
from emd_core.config import Config
from emd_core.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
DIGEST = "model.digest"  # tag of a version: which checkpoint it holds
MARK = "promotion.mark."  # begins the tags that are marks
# A mark is held for a few writes. Its holder gives up after half of its life, so clocks may differ by the other half.
LIFE = timedelta(minutes=2)
LONGEST_NAME, NOT_IN_NAMES = 256, "/:@%?#'\"`\\"
LONGEST_TEXT = 5000  # characters of a description that MLflow's database holds


def _model_name(name: str) -> str:
    if not name.strip(". ") or name != name.strip() or len(name) > LONGEST_NAME or set(name) & set(NOT_IN_NAMES):
        raise ValueError(
            f"a registered model's name has 1 to {LONGEST_NAME} characters, none of {' '.join(NOT_IN_NAMES)}, and "
            "no space at its ends; the registry or its addresses models:/name@alias would refuse it"
        )
    return name


ModelName = Annotated[str, AfterValidator(_model_name)]


class Mark(Config):
    """The value of such a tag: who is moving an alias."""

    at: datetime
    by: str
    machine: str  # where pid means something; "" where that is unknown
    pid: int

    def alive(self) -> bool:
        """False once it has expired, or at once if it was left by a process of this machine that is gone."""
        if self.machine and self.machine == _machine() and not _runs(self.pid):
            return False
        return abs(datetime.now(UTC) - self.at) < LIFE

    def require_fresh(self) -> None:
        """Stop before another may take this mark for a dead one's."""
        if datetime.now(UTC) - self.at > LIFE / 2:
            raise UserError(
                "the registry took too long to answer, so the champion was not touched; repeat the command."
            )


@contextmanager
def marked(client: "MlflowClient", name: str) -> Iterator[Mark]:
    """Hold the right to move a model's aliases within the block; UserError if somebody else holds it.

    Marks of the dead are removed. Those that a killed process left on another machine live on for LIFE.
    """
    key, own = f"{MARK}{uuid4().hex[:12]}", Mark(at=datetime.now(UTC), by=who(), machine=_machine(), pid=os.getpid())
    client.set_registered_model_tag(name, key, own.model_dump_json())
    try:
        for other, mark in _marks(client, name).items():
            if other == key:
                continue
            if mark.alive():
                raise UserError(
                    f"the champion of {name} is being changed by {mark.by} since {mark.at:%H:%M:%S} UTC, so nothing "
                    f"was changed; repeat the command, at the latest {LIFE.seconds // 60} minutes after that time."
                )
            client.delete_registered_model_tag(name, other)
        yield own
    finally:
        client.delete_registered_model_tag(name, key)


def held(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that an alias names; None if there is none, as before the first promotion."""
    from mlflow import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # The first for a model without that alias, the second for a name that was never registered.
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise


def registered(client: "MlflowClient", name: str, model: str) -> "ModelVersion | None":
    """The version that holds this checkpoint already, from a promotion that was refused or broke off.

    Two promotions of one checkpoint at once leave two: the one that was in use counts, else the older.
    """
    versions = client.search_model_versions(f"name = '{name}' and tag.`{DIGEST}` = '{model}'")
    return min(versions, key=lambda v: ("promoted_at" not in v.tags, int(v.version)), default=None)


def move(
    client: "MlflowClient", name: str, number: str, *, compared: str | None, tags: Mapping[str, str], text: str
) -> None:
    """Make version `number` the champion if the champion still is `compared`, the one it was judged against.

    Everything else is written before the alias, `previous` last: who is killed on the way leaves the champion as it
    was, and the same call finishes the job. `tags` and `text` (its description, markdown) say why, on the new version.
    """
    with marked(client, name) as mark:
        require_champion(client, name, compared)
        describe(client, name, number, tags, text)
        if compared is not None:
            client.set_registered_model_alias(name, PREVIOUS, compared)
        mark.require_fresh()
        client.set_registered_model_alias(name, CHAMPION, number)
    end_trial(client, name, number)


def require_champion(client: "MlflowClient", name: str, compared: str | None) -> None:
    """UserError if the champion is another than the one that was compared with; None: there was none."""
    champion = held(client, name, CHAMPION)
    now = None if champion is None else str(champion.version)
    if now != compared:
        raise UserError(
            f"the champion of {name} changed from {_named(compared)} to {_named(now)} meanwhile, so it stays; repeat "
            "the command to compare with that one."
        )


def describe(client: "MlflowClient", name: str, number: str, tags: Mapping[str, str], text: str) -> None:
    """Tags and description of a version."""
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    client.update_model_version(name, number, text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 2]} …")


def end_trial(client: "MlflowClient", name: str, number: str) -> None:
    """Take the alias `challenger` from a version, if it has it: it won, or it was refused."""
    challenger = held(client, name, CHALLENGER)
    if challenger is not None and str(challenger.version) == number:
        client.delete_registered_model_alias(name, CHALLENGER)


def who() -> str:
    """Who promotes: the user, and the pipeline's run if there is one."""
    run = os.environ.get("EMD_PIPELINE_RUN")
    return f"{user()}, pipeline run {run}" if run else user()


def _marks(client: "MlflowClient", name: str) -> dict[str, Mark]:
    tags = client.get_registered_model(name).tags
    marks = {}
    for key, value in tags.items():
        if key.startswith(MARK):
            try:
                marks[key] = Mark.model_validate_json(value)
            except ValidationError:
                raise UserError(f"the tag {key} of the model {name} is no mark of a promotion; remove it.") from None
    return marks


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _machine() -> str:
    """One boot of one machine and one namespace of process ids, so that containers are told apart; "" without Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _named(version: str | None) -> str:
    return "none" if version is None else f"version {version}"
