"""What a registered model says of its making: a real git and DVC repository, a real registry (sqlite)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import typer
import yaml

from components.lineage import find, lineage, load, registered
from components.registry.lineage_check import DIFFERS, NOT_AT_HAND, SAME, Finding, check
from components.registry.lineage_record import keep
from components.tracking import provenance
from emd_core.config import Config
from emd_core.errors import UserError

ROOT = Path(__file__).parents[2]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
PARAMS = {"make_sample": {"pairs": 2}, "train_emd": {"lr": 1e-8, "seed": 7}, "evaluate": {"seed": 0}, "promote": {}}
STAGES = {
    "make_sample": {
        "cmd": "mkdir -p data/ffpp/c23 && echo one > data/ffpp/c23/000.mp4 && echo two > data/ffpp/c23/001.mp4",
        "params": ["make_sample"],
        "outs": ["data/ffpp"],
    },
    "train_emd": {
        "cmd": "mkdir -p models/emd && cat data/ffpp/c23/*.mp4 > models/emd/model.safetensors",
        "params": ["train_emd"],
        "deps": ["data/ffpp", "components/train_emd.py"],
        "outs": ["models/emd"],
    },
}
MODEL = """
import mlflow
class Answer(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input
mlflow.models.set_model(Answer())
"""
CHECKS = [{"verdict": "passed", "reason": "Face2Face/c23: 0.9500 keeps up with 0.9400"}]
DECISION = {"summary": "Promote: all [3] checks passed.", "checks": CHECKS}
PROMOTION = {"at": "2026-11-27T01:00:00+00:00", "by": "mary", "decision": DECISION}
CHAMPION = "models:/tiny@champion"


class Section(Config, extra="allow"):
    """The parameters of any stage."""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def log_run(stage: str, digest: str, **tags: str) -> None:
    """A stage's run, as tracking makes it."""
    cfg = Section.model_validate(PARAMS[stage])
    known = {**provenance.tags(stage, cfg, {}), provenance.MODEL: digest, **tags}
    with mlflow.start_run(run_name=stage, tags=known):
        Path("kept").mkdir()
        provenance.write(Path("kept"), cfg)
        mlflow.log_artifacts("kept", provenance.FOLDER)
        shutil.rmtree("kept")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which a model was trained, from a changed and uncommitted file, and promoted."""
    repo = tmp_path_factory.mktemp("lineage") / "repo"
    for folder in provenance.CODE:
        shutil.copytree(ROOT / folder, repo / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (repo / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (repo / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (repo / ".gitignore").write_text("__pycache__/\nmlflow.db\n")
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "repro", "-q"), ("git", "add", ".")):
        run(*command, cwd=repo)
    run(*GIT, "commit", "-q", "-m", "data", cwd=repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repo)
        use(repo, patch)
        # One experiment, whose artifacts lie outside of the working directory that tests copy.
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("emd", (repo.parent / "artifacts").as_uri()))
        checkpoint = repo / "models/emd/model.safetensors"
        digest = provenance.model_digest(checkpoint.parent)
        log_run("train_emd", digest)
        (repo / "params.yaml").write_text((repo / "params.yaml").read_text() + "# judged in a hurry\n")
        log_run("evaluate", digest)
        run("git", "checkout", "-q", "params.yaml", cwd=repo)
        (repo.parent / "model.py").write_text(MODEL)
        with mlflow.start_run(run_name="promote", tags=provenance.tags("promote", Section(), {})):
            info = mlflow.pyfunc.log_model(
                name="detector", python_model=str(repo.parent / "model.py"), artifacts={"checkpoint": str(checkpoint)},
                pip_requirements=["mlflow"],
            )  # fmt: skip
            version = mlflow.register_model(info.model_uri, "tiny")
            keep(version, checkpoint, {"evaluation": repo}, {**PROMOTION, "replaced": {"version": "0", "model": "abc"}})
        client = mlflow.MlflowClient()
        client.set_registered_model_alias("tiny", "champion", version.version)
        client.create_model_version(
            "tiny", (repo.parent / "artifacts").as_uri()
        )  # as of an older version: without a record
    return repo


def use(repo: Path, patch: pytest.MonkeyPatch) -> None:
    """This repository's registry, under its absolute path, since MLflow keeps what it opened."""
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repo}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{repo}/mlflow.db")


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil, as the working directory."""
    repo = tmp_path / "repo"
    shutil.copytree(made, repo)
    monkeypatch.chdir(repo)
    use(repo, monkeypatch)
    return repo


def findings(contents: bool = True) -> dict[str, Finding]:
    version = find(CHAMPION)
    return {finding.what: finding for finding in check(*load(version), registered(version), contents=contents)}


def differing() -> dict[str, list[str]]:
    return {what: f.differences for what, f in findings().items() if f.verdict == DIFFERS}


def status(model: str = CHAMPION) -> int:
    with pytest.raises(typer.Exit) as end:
        lineage(model)
    return end.value.exit_code


def test_all_is_the_same_where_it_was_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 0
    said = capsys.readouterr().out
    assert "tiny version 1, alias champion" in said and "by mary" in said and "all [3] checks passed" in said
    assert "passed  Face2Face/c23: 0.9500 keeps up with 0.9400" in said
    assert "data/ffpp   md5 " in said and "version 0 (abc)" in said and "no run of gate was found" in said
    found = findings()
    assert {f.verdict for f in found.values()} == {SAME}
    commit = run("git", "rev-parse", "HEAD", cwd=here)[:8]
    assert list(found) == [
        "registered checkpoint",
        "models/emd/model.safetensors",
        "code of train_emd, evaluate, promote",
        f"commit {commit} of train_emd, evaluate, promote",
        "params.yaml",
        "dvc.lock",
        "data/ffpp",
        "models/emd",
        "packages of train_emd",
    ]


def test_a_byte_more_in_a_video_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (here / "data/ffpp/c23/001.mp4").open("a") as video:
        video.write("x")
    assert status() == 1
    assert "data/ffpp/c23/001.mp4 changed: 4 bytes then, 5 now" in capsys.readouterr().out
    assert list(differing()) == ["data/ffpp"]

    (here / "data/ffpp/c23/001.mp4").write_text("owt\n")  # as long as it was
    (here / "data/ffpp/c23/000.mp4").unlink()
    (here / "data/ffpp/c23/002.mp4").touch()
    names = ["000.mp4 is missing", "002.mp4 is new", "001.mp4 changed in content"]
    assert differing() == {"data/ffpp": [f"data/ffpp/c23/{name}" for name in names]}
    assert findings(contents=False)["data/ffpp"].differences == [f"data/ffpp/c23/{name}" for name in names[:2]]


def test_what_is_not_here_is_no_difference(here: Path) -> None:
    for path in ("data", "models"):
        shutil.rmtree(here / path)
    for path in ("dvc.lock", "params.yaml"):
        (here / path).unlink()
    shutil.rmtree(here / ".git")
    absent = {what for what, f in findings().items() if f.verdict == NOT_AT_HAND}
    assert absent >= {"data/ffpp", "models/emd", "models/emd/model.safetensors", "dvc.lock", "params.yaml"}
    assert len(absent) == 6 and status() == 0  # the sixth is the commit


def test_changed_parameters_and_stages_are_named(here: Path) -> None:
    changed = PARAMS | {"train_emd": {"lr": 1e-3, "seed": 7}}
    (here / "params.yaml").write_text(yaml.safe_dump(changed))
    assert differing() == {"params.yaml": ["train_emd.lr: 1e-08 then, 0.001 now"]}
    run("dvc", "repro", "-q", cwd=here)
    assert differing()["dvc.lock"] == ["train_emd: params.lr: 1e-08 then, 0.001 now"]


def test_changed_code_is_named_by_a_command_of_its_own(here: Path) -> None:
    with (here / "emd_core/models/parts/losses.py").open("a") as file:
        file.write("# another loss\n")
    run(*GIT, "commit", "-q", "-a", "-m", "another commit", cwd=here)
    command = [sys.executable, "-m", "components", "lineage", CHAMPION, "--json"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["model"]["name"] == "tiny" and told["lineage"]["promotion"]["by"] == "mary"
    different = {f["what"]: f["differences"] for f in told["findings"] if f["verdict"] == DIFFERS}
    assert different == {"code of train_emd, evaluate, promote": ["emd_core/models/parts/losses.py changed"]}


def test_a_commit_that_is_not_what_ran_is_found(here: Path) -> None:
    record, files = load(find(CHAMPION))
    (listing,) = record["code"].values()
    listing["emd_core/models/parts/losses.py"] = "0" * 40
    found = [f for f in check(record, files, "", contents=False) if f.what.startswith("commit")]
    assert [f.differences for f in found] == [["emd_core/models/parts/losses.py changed in what ran"]]
    record["runs"]["train_emd"]["patch"] = (
        "diff --git a/emd_core/models/parts/losses.py b/emd_core/models/parts/losses.py\n+x\n"
    )
    found = [f for f in check(record, files, "", contents=False) if f.what.startswith("commit")]
    assert [(f.verdict, f.remark) for f in found] == [
        (SAME, "with changes that were not committed, kept as a patch of 1 file")
    ]


def test_the_model_alone_is_enough(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs may be deleted; parameters, patches and machines are in the model's own artifacts."""
    client = mlflow.MlflowClient()
    for found in mlflow.search_runs(search_all_experiments=True, output_format="list"):
        client.delete_run(found.info.run_id)
    assert status() == 0 and "train_emd" in capsys.readouterr().out
    record, files = load(find(CHAMPION))
    assert record["params"]["train_emd"] == PARAMS["train_emd"] and record["params"]["make_sample"] == {"pairs": 2}
    assert "+# judged in a hurry" in record["runs"]["evaluate"]["patch"] and record["runs"]["train_emd"]["patch"] == ""
    assert record["runs"]["train_emd"]["environment"]["packages"]["torch"]
    assert files[files["out"] == "data/ffpp"]["path"].tolist() == ["c23/000.mp4", "c23/001.mp4"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("tiny", "names no model; write models:/name@alias"),
        ("models:/tiny@champ", "alias champ not found"),
        ("models:/none/1", "name=none, version=1"),
        ("tiny/9", "version=9"),
        ("tiny/2", "tiny version 2 has no lineage.json"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(here: Path, model: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as told:
        lineage(model)
    assert str(told.value).count("\n") == 0


def test_without_a_registry_none_is_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "components", "lineage", CHAMPION]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "there is no mlflow.db here" in done.stderr
    assert not list(tmp_path.iterdir())
