"""Two at once, and killed at every write: who moves the champion's alias, on a real registry (sqlite)."""

import os
import signal
from datetime import UTC, datetime, timedelta

import mlflow
import pytest

from components.registry.versions import CHAMPION, DIGEST, LIFE, MARK, PREVIOUS, Mark, marked, move, registered
from components.rollback import restore
from emd_core.errors import UserError
from tests.fakes.registry_faults import PROCESSES, begin

TAGS = {"promoted_at": "2026-01-01", "replaced_version": "1"}
# of a promotion: mark, two tags, description, previous, champion, challenger, mark
MOVES = 8
# of a rollback: mark, three tags, champion, previous, mark
ROLLS = 7


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.MlflowClient().search_registered_models()
    return uri


def model(name: str, versions: int, **aliases: str) -> None:
    """A registered model with versions 1, 2, …"""
    client = mlflow.MlflowClient()
    client.create_registered_model(name)
    for number in range(versions):
        client.create_model_version(name, "file:///nowhere", tags={DIGEST: f"digest-{number + 1}"})
    for alias, number in aliases.items():
        client.set_registered_model_alias(name, alias, number)


def aliases(name: str) -> dict[str, str]:
    """What the registry says now; nobody's mark may be left."""
    held = mlflow.MlflowClient().get_registered_model(name)
    return {alias: str(number) for alias, number in held.aliases.items()}


def marks(name: str) -> list[str]:
    return [tag for tag in mlflow.MlflowClient().get_registered_model(name).tags if tag.startswith(MARK)]


def promote_2(name: str, compared: str = "1") -> None:
    move(mlflow.MlflowClient(), name, "2", compared=compared, tags=TAGS, text="why")


def roll(name: str) -> None:
    restore(mlflow.MlflowClient(), name)


@pytest.mark.parametrize("n", range(1, MOVES + 1))
def test_a_promotion_killed_before_any_write_leaves_a_champion_and_is_finished_by_repeating(store: str, n: int) -> None:
    name = f"killed-{n}"
    model(name, 3, champion="1", previous="3", challenger="2")
    process = begin(store, promote_2, name, kill=n)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = aliases(name)
    assert left[CHAMPION] == ("1" if n <= 6 else "2")
    assert left[PREVIOUS] == ("3" if n <= 5 else "1")
    if left[CHAMPION] == "1":
        promote_2(name)
        assert aliases(name) == {CHAMPION: "2", PREVIOUS: "1"}
        version = mlflow.MlflowClient().get_model_version(name, "2")
        assert TAGS.items() <= version.tags.items() and version.description == "why"
        assert not marks(name), "what the killed process left is removed"


def test_nothing_is_written_after_the_last_of_those(store: str) -> None:
    model("whole", 3, champion="1", challenger="2")
    model("rolled", 2, champion="2", previous="1")
    begun = [begin(store, promote_2, "whole", kill=MOVES + 1), begin(store, roll, "rolled", kill=ROLLS + 1)]
    for process in begun:
        process.join()
        assert process.exitcode == 0
    assert aliases("whole") == {CHAMPION: "2", PREVIOUS: "1"} and not marks("whole")
    assert aliases("rolled") == {CHAMPION: "1", PREVIOUS: "2"} and not marks("rolled")


@pytest.mark.parametrize("n", range(1, ROLLS + 1))
def test_a_rollback_killed_before_any_write_is_finished_by_repeating(store: str, n: int) -> None:
    name = f"back-killed-{n}"
    model(name, 2, champion="2", previous="1")
    process = begin(store, roll, name, kill=n)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert aliases(name)[CHAMPION] == ("2" if n <= 5 else "1")
    if n < ROLLS:
        roll(name)
        assert not marks(name)
    assert aliases(name) == {CHAMPION: "1", PREVIOUS: "2"}


@pytest.mark.parametrize("n", range(6))
def test_of_two_promotions_at_once_at_most_one_wins(store: str, n: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Each candidate was compared with version 1; who comes second must not replace what it was not compared with."""
    name = f"race-{n}"
    model(name, 3, champion="1")
    start = PROCESSES.Barrier(2)
    racers = [begin(store, race, name, number, start=start) for number in ("2", "3")]
    for process in racers:
        process.join()
    won = [number for process, number in zip(racers, ("2", "3"), strict=True) if process.exitcode == 0]
    assert {process.exitcode for process in racers} <= {0, 2} and len(won) <= 1, capfd.readouterr().err
    assert aliases(name) == ({CHAMPION: won[0], PREVIOUS: "1"} if won else {CHAMPION: "1"})
    assert not marks(name)


def race(name: str, number: str) -> None:
    try:
        move(mlflow.MlflowClient(), name, number, compared="1", tags={}, text="")
    except UserError:
        raise SystemExit(2) from None


def test_who_sees_a_live_mark_gives_way(store: str) -> None:
    client = mlflow.MlflowClient()
    model("held", 2, champion="1", previous="2")
    with marked(client, "held"):
        with pytest.raises(UserError, match="the champion of held is being changed by .* nothing was changed; repeat"):
            promote_2("held")
        with pytest.raises(UserError, match="is being changed"):
            roll("held")
        assert len(marks("held")) == 1
    assert aliases("held") == {CHAMPION: "1", PREVIOUS: "2"} and not marks("held")


def test_marks_of_other_machines_expire(store: str) -> None:
    client = mlflow.MlflowClient()
    model("elsewhere", 2, champion="1")
    now = datetime.now(UTC)
    for age, alive in ((timedelta(0), True), (LIFE * 0.9, True), (LIFE * 1.1, False), (-LIFE * 1.1, False)):
        mark = Mark(at=now - age, by="somebody", machine="another", pid=os.getpid())
        client.set_registered_model_tag("elsewhere", f"{MARK}x", mark.model_dump_json())
        if alive:
            with pytest.raises(UserError, match="changed by somebody"):
                promote_2("elsewhere")
        else:
            with marked(client, "elsewhere"):
                assert len(marks("elsewhere")) == 1, "the dead one's is gone"
    with pytest.raises(UserError, match="took too long"):
        Mark(at=now - LIFE * 0.6, by="me", machine="", pid=1).require_fresh()


def test_the_champion_must_be_the_one_that_was_compared(store: str) -> None:
    model("changed", 3, champion="3")
    with pytest.raises(UserError, match="changed from version 1 to version 3 meanwhile"):
        promote_2("changed")
    with pytest.raises(UserError, match="changed from none to version 3"):
        promote_2("changed", None)  # type: ignore[arg-type]
    assert aliases("changed") == {CHAMPION: "3"}


def test_of_two_versions_of_one_checkpoint_the_one_that_was_in_use_counts(store: str) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model("twice")
    for tags in ({}, {"promoted_at": "2026-01-01"}, {}):
        client.create_model_version("twice", "file:///nowhere", tags={DIGEST: "d", **tags})
    found = registered(client, "twice", "d")
    assert found is not None and str(found.version) == "2"
    client.delete_model_version_tag("twice", "2", "promoted_at")
    found = registered(client, "twice", "d")
    assert found is not None and str(found.version) == "1"
    assert registered(client, "twice", "unknown") is None


def test_back_and_forward(store: str) -> None:
    model("story", 2, champion="1")
    with pytest.raises(UserError, match="no version with alias previous"):
        roll("story")
    promote_2("story")
    client = mlflow.MlflowClient()
    for champion, previous in (("1", "2"), ("2", "1")):
        assert restore(client, "story") == (champion, previous)
        assert aliases("story") == {CHAMPION: champion, PREVIOUS: previous}
        left, back = (client.get_model_version("story", number).tags for number in (previous, champion))
        assert left["rolled_back_to"] == champion and {"rolled_back_at", "rolled_back_by"} <= left.keys()
        assert "rolled_back_at" not in back
    client.set_registered_model_alias("story", PREVIOUS, "2")
    client.delete_model_version_tag("story", "1", "rolled_back_to")
    with pytest.raises(UserError, match="version 2 is both champion and previous"):
        roll("story")
    with pytest.raises(UserError, match="unknown has no champion"):
        roll("unknown")
