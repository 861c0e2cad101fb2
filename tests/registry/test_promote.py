"""Promotion on a real registry (sqlite), with tiny real networks whose answers are known."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities.model_registry import ModelVersion

from components.lineage import load
from components.promote import Promote
from components.registry import answer_example, serving_check
from components.registry.versions import held, registered
from components.rollback import restore
from components.tracking.run import find_model, stage_run
from emd_core.config import section
from emd_core.errors import UserError
from emd_core.evaluation.gating import Decision
from emd_core.models.parts.checkpoint import CHECKPOINT
from tests.fakes.candidates import HURT, SLICE, Candidate, write_candidate, write_constant, write_crops
from tests.fakes.registry_faults import begin


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops, three models that call every crop manipulated, and one registry; each test has a model name of its own."""
    root = tmp_path_factory.mktemp("promotion")
    write_crops(root / "data")
    for name, activation in (("a", 4.0), ("b", 5.0), ("c", 6.0)):
        write_constant(root / name, activation)
    return root


@pytest.fixture(autouse=True)
def _tracking(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)


@pytest.fixture
def _served_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered model answers in this process, so none is started; test_serving_check.py is about a clean one."""

    def answer(model: str, folder: str) -> dict[str, Any]:
        answer_example.main(model, folder, str(tmp_path / "answer.json"))
        answered: dict[str, Any] = json.loads((tmp_path / "answer.json").read_text())
        return answered

    monkeypatch.setattr(serving_check, "answer_in_clean_process", answer)


Make = Callable[..., Candidate]


@pytest.fixture
def make(root: Path, tmp_path: Path) -> Make:
    def candidate(name: str, accuracy: float = 0.95, right: bool = True, hurt: bool | None = None) -> Candidate:
        folder = tmp_path / f"{name}-{accuracy}-{right}-{hurt}"
        return write_candidate(folder, root / name, root / "data", accuracy=accuracy, right=right, hurt=hurt)

    return candidate


def alias(name: str, which: str) -> ModelVersion | None:
    held = mlflow.MlflowClient().get_registered_model(name).aliases.get(which)
    return None if held is None else mlflow.MlflowClient().get_model_version(name, held)


def numbers(name: str) -> dict[str, str]:
    aliases = mlflow.MlflowClient().get_registered_model(name).aliases
    return {alias: str(number) for alias, number in aliases.items()}


def versions(name: str) -> int:
    return len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'"))


def stored_decision(version: ModelVersion) -> Decision:
    path = f"models:/{version.name}/{version.version}/artifacts/decisions/{version.tags['decision.digest']}"
    folder = Path(mlflow.artifacts.download_artifacts(path))
    assert SLICE in (folder / "decision.html").read_text()
    return Decision.model_validate_json((folder / "decision.json").read_text())


def test_first_then_the_same_then_a_better_then_a_worse_one_then_back(
    make: Make, root: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    first = make("a", accuracy=0.92)
    with stage_run("train_emd", Promote(model_name="story", batch_size=1), {}) as run:
        run.log_model(first.digest, "emd")  # as training does
    first.promote("story")
    assert "story version 1 is now @champion" in capsys.readouterr().out
    champion = alias("story", "champion")
    assert champion is not None and numbers("story") == {"champion": "1"}
    assert champion.tags.keys() >= {"promoted_at", "promoted_by", "run", "git.commit", "data.digest"}
    assert (champion.tags["model.digest"], champion.tags["replaced_version"]) == (first.digest, "")
    trained = find_model(first.digest)
    assert champion.source == f"models:/{trained}", "the model that training made is filled"
    assert mlflow.MlflowClient().get_logged_model(trained).tags["promotion"] == "promoted"
    assert "first promotion" in champion.tags["decision"] and champion.description.startswith("# Promote")
    made = stored_decision(champion)
    assert made.promote and {"serving", "latency", "size"} <= {check.name for check in made.checks}
    assert all(check.verdict == "passed" for check in made.checks)

    request.getfixturevalue("_served_here")
    first.promote("story")
    assert capsys.readouterr().out.strip() == "already champion: story version 1"
    assert versions("story") == 1

    # Version 1's stored accuracy is 0.92, but on these crops it is right on half of them.
    better = make("b", accuracy=0.91)
    better.promote("story")
    assert numbers("story") == {"champion": "2", "previous": "1"}
    champion = alias("story", "champion")
    assert champion is not None and champion.tags["replaced_version"] == "1"
    told = load(champion)[0]
    assert told["promotion"]["replaced"] == {"version": "1", "model": first.digest}
    assert told["promotion"]["decision"] == stored_decision(champion).model_dump(mode="json")
    assert told["runs"]["promote"]["run_id"] == champion.tags["run"]
    assert set(told["tables"]) == {"faces", "masks"}
    (drop,) = (check for check in stored_decision(champion).checks if check.name == "drop")
    assert drop.value == 0.5 and "the champion's 0.5000" in drop.reason

    capsys.readouterr()
    worse = make("a", accuracy=0.99, right=False)  # its gate let it pass
    worse.promote("story")
    assert f"not promoted: Refused (compared with champion {champion.tags['model.digest']}" in capsys.readouterr().out
    assert numbers("story") == {"champion": "2", "previous": "1"} and versions("story") == 2
    refused = mlflow.MlflowClient().get_model_version("story", "1")
    assert refused.tags["promotion"] == "refused" and "and not by chance" in refused.tags["decision"]
    assert refused.description.startswith("# Do not promote") and not stored_decision(refused).promote

    # The next scheduled run does not bring back what somebody took out of use.
    restore(mlflow.MlflowClient(), "story")
    capsys.readouterr()
    better.promote("story")
    assert "not promoted: story version 2 holds this model and was rolled back by" in capsys.readouterr().out
    assert numbers("story") == {"champion": "1", "previous": "2"}


@pytest.mark.usefixtures("_served_here")
def test_a_model_that_is_better_as_it_is_and_worse_under_recompression_is_refused(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """The champion is right on half of the crops, whatever happened to them: it calls all of them manipulated."""
    make("a").promote("recompressed")
    worse = make("b", right=True, hurt=False)
    worse.promote("recompressed")
    said = capsys.readouterr().out
    assert f"{HURT}: frame accuracy 0.0000, the champion's 0.5000: a loss beyond the margin" in said
    assert f" {SLICE}:" not in said and numbers("recompressed") == {"champion": "1"}
    make("c", right=True, hurt=True).promote("recompressed")
    assert numbers("recompressed")["champion"] != "1"


@pytest.mark.usefixtures("_served_here")
@pytest.mark.parametrize("n", [2, 3])
def test_a_promotion_killed_before_it_is_registered_or_on_trial_is_finished_by_repeating(
    make: Make, root: Path, n: int
) -> None:
    """The writes are: the name, the version, the alias challenger; those of the move are in test_promotion_faults."""
    first, name = make("a"), f"killed-{n}"
    process = begin(f"sqlite:///{root}/mlflow.db", first.promote, name, kill=n)
    process.join()
    assert process.exitcode == -signal.SIGKILL and versions(name) == n - 2 and numbers(name) == {}
    first.promote(name)
    assert numbers(name) == {"champion": "1"} and versions(name) == 1


@pytest.mark.parametrize("harm", ["cut off", "gone"])
def test_a_champion_that_cannot_be_scored_again_stays(make: Make, harm: str) -> None:
    name = f"harmed-{harm.replace(' ', '-')}"
    client = mlflow.MlflowClient()
    client.create_registered_model(name)
    folder = write_champion(name, harm)
    with pytest.raises(
        UserError, match=f"the champion {name} version 1 cannot be scored again .* so it stays; restore"
    ):
        make("a").promote(name)
    assert numbers(name) == {"champion": "1"} and versions(name) == 1 and folder.exists()


def write_champion(name: str, harm: str) -> Path:
    """A champion whose checkpoint was harmed."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment(name)
    model = client.create_logged_model(experiment)
    folder = Path(model.artifact_location.removeprefix("file://")) / "artifacts"
    folder.mkdir(parents=True)
    if harm == "cut off":
        (folder / CHECKPOINT).write_bytes(b"\x10\0\0\0\0\0\0\0{")
    client.create_model_version(name, f"models:/{model.model_id}")
    client.set_registered_model_alias(name, "champion", "1")
    return folder


def test_what_the_gate_refused_is_not_registered_but_seen(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    poor = make("c", accuracy=0.5)
    experiment = mlflow.set_experiment("emd")
    client = mlflow.MlflowClient()
    logged = client.create_logged_model(experiment.experiment_id, tags={"model.digest": poor.digest})
    poor.promote("refused")
    assert "not promoted: Refused" in capsys.readouterr().out and versions("refused") == 0
    tags = client.get_logged_model(logged.model_id).tags
    assert tags["promotion"] == "refused" and SLICE in tags["decision"]
    (run,) = mlflow.search_runs(
        search_all_experiments=True,
        filter_string="tags.promotion = 'refused' and params.model_name = 'refused'",
        output_format="list",
    )
    assert SLICE in run.data.tags["decision"]
    assert "decision/decision.html" in [file.path for file in client.list_artifacts(run.info.run_id, "decision")]


def test_the_inputs_must_be_about_one_model_and_one_data_set(make: Make, root: Path, tmp_path: Path) -> None:
    mixed = make("a")
    mixed.model = root / "b"
    with pytest.raises(UserError, match=f"evaluation is of {mixed.digest}"):
        mixed.promote("mixed")
    mixed.model = tmp_path
    with pytest.raises(UserError, match="run train_emd first"):
        mixed.promote("mixed")
    other = make("b")
    write_crops(tmp_path / "other", splits=("test",))
    other.data = tmp_path / "other"
    with pytest.raises(UserError, match="but the evaluation was made on"):
        other.promote("mixed")


def test_a_task_without_a_lasting_registry_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("EMD_PIPELINE_RUN", "run-7")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI is not set"):
        make("a").promote("nowhere")


@pytest.mark.parametrize("name", ["", "  ", "..", "a/b", "a:b", "a@b", "o'brien", "50%", " emd", "x" * 257])
def test_a_name_that_the_registry_or_an_address_refuses_is_told_at_once(name: str) -> None:
    given = {"promote": {"model_name": name, "batch_size": 1, "precision": "fp32"}}
    with pytest.raises(UserError, match="promote.model_name = .* is refused .*registered model's name"):
        section(given, "promote", Promote, where="params.yaml")


@pytest.mark.parametrize("name", ["emd-detector", "EMD 2.1", "détecteur_é"])
def test_names_that_are_taken_can_be_registered_and_found(name: str) -> None:
    Promote(model_name=name, batch_size=1)
    client = mlflow.MlflowClient()
    client.create_registered_model(name)
    assert registered(client, name, "0" * 12) is None and held(client, name, "champion") is None
