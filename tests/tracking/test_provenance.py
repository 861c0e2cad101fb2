"""A run says which code, parameters, data and machine it was made from: a real repository, a real dvc.lock."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from components.tracking import dvc_lock, provenance
from components.tracking.provenance import tags
from emd_core.config import Config
from emd_core.storage.manifest import MASKS, read_manifest, write_manifest

ROOT = Path(__file__).parents[2]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
LOCK = """
schema: '2.0'
stages:
  ingest:
    cmd: python -m components ingest
    deps:
    - {path: data/ffpp, md5: 1111111111111111.dir}
    - {path: components/ingest.py, md5: aaaa}
    outs: [{path: data/videos, md5: 2222222222222222.dir}]
  train_emd:
    cmd: python -m components train_emd
    deps: [{path: data/videos, md5: 2222222222222222.dir}]
    params:
      params.yaml:
        train_emd: {lr: 1e-08, network: {kind: emd}, name: 1e}
    outs: [{path: models/emd, md5: 3333333333333333.dir}]
"""


class Train(Config):
    epochs: int
    seed: int = 7


CFG = Train(epochs=3)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with one commit of a file of code, and of parameters."""
    for name in ("DVC_STAGE", "DVC_EXP_NAME", "EMD_PIPELINE_RUN", "EMD_IMAGE", "EMD_GIT_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stage.py").write_text("epochs = 3\n")
    (tmp_path / "params.yaml").write_text("train: {epochs: 3}\n")
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        subprocess.run([*GIT, *command], check=True)
    return tmp_path


def test_tags_name_the_tables_and_checkpoints_it_read(tmp_path: Path) -> None:
    empty = pd.DataFrame({name: [] for name in MASKS.names}).astype({"frame": "int32"})
    (tmp_path / "masks").mkdir()
    (tmp_path / "fer").mkdir()
    write_manifest(tmp_path / "masks", empty, MASKS, {})
    (tmp_path / "fer/model.safetensors").write_bytes(b"weights")
    inputs = {"masks": tmp_path / "masks", "fer": tmp_path / "fer", "report": tmp_path, "champion": None}
    made = tags("train_emd", CFG, inputs)
    assert made["input.masks"] == read_manifest(tmp_path / "masks", MASKS).id
    assert made["input.fer"] == "9a129038d9a0"  # sha256sum of those seven bytes
    assert not {"input.report", "input.champion"} & set(made)
    other = tags("train_emd", Train(epochs=4), {"masks": tmp_path / "masks"})
    assert other["data.digest"] == made["data.digest"]  # of the tables alone
    assert other["params.digest"] != made["params.digest"]


def test_tags_name_code_data_and_experiment(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "dvc.lock").write_text(LOCK)
    monkeypatch.setenv("DVC_EXP_NAME", "sooty-cat")
    monkeypatch.setenv("EMD_IMAGE", "emd@sha256:12")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mary")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    made = tags("train_emd", CFG, {})
    assert (made["git.commit"], made["git.dirty"]) == (head, "false")
    assert (made["seed"], made["mlflow.user"], made["image"]) == ("7", "mary", "emd@sha256:12")
    assert made["DVC_EXP_NAME"] == "sooty-cat" and "pipeline.run" not in made
    assert made["data.revision"] == "data/ffpp 111111111111"
    (repository / "stage.py").write_text("epochs = 4\n")
    assert tags("train_emd", CFG, {})["git.dirty"] == "true"


def test_outside_of_a_repository_the_image_knows_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("EMD_GIT_COMMIT", "abc-dirty")
    made = tags("gate", CFG, {})
    assert made["git.commit"] == "abc-dirty" and not {"git.dirty", "dvc.lock", "data.revision"} & set(made)


def test_the_patch_makes_the_commit_what_ran(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.dirty_patch() == ""
    (repository / "stage.py").write_text("epochs = 4\n")
    (repository / "params.yaml").write_text("train: {epochs: 4}\n")
    (repository / "kept").mkdir()
    provenance.write(repository / "kept", CFG)
    subprocess.run(["git", "checkout", "-q", "."], check=True)
    subprocess.run(["git", "apply", "kept/dirty.patch"], check=True)
    assert (repository / "stage.py").read_text() == "epochs = 4\n"
    assert (repository / "params.yaml").read_text() == "train: {epochs: 4}\n"
    record = json.loads((repository / "kept/provenance.json").read_text())
    assert record["params"] == {"epochs": 3, "seed": 7}

    monkeypatch.setattr(provenance, "LONGEST_PATCH", 10)
    assert provenance.dirty_patch().startswith("diff --git\n[cut off: the patch has ")


def test_every_file_of_code_has_the_name_that_git_gives_it() -> None:
    code = provenance.code()
    command = ["git", "hash-object", "components/gate.py", "emd_core/pages/style.html.j2"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [code["components/gate.py"], code["emd_core/pages/style.html.j2"]] == named
    assert not any(path.startswith("tests/") for path in code)


def test_a_stage_without_torch_does_not_load_it() -> None:
    script = (
        "import json, sys; from components.tracking.provenance import environment; e = environment();"
        "print(json.dumps([e['packages']['torch'], e['cuda'], 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    number, cuda, loaded = json.loads(done.stdout)
    assert number[0].isdigit() and cuda is None and not loaded


def test_the_lock_names_the_dataset_and_the_parameters(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    lock = dvc_lock.read(tmp_path / "dvc.lock")
    assert lock is not None and dvc_lock.read(tmp_path / "none.lock") is None
    assert lock.sources() == {"data/ffpp": "1111111111111111.dir"}
    assert list(lock.outs()) == ["data/videos", "models/emd"]
    # DVC writes 1e-08, which YAML 1.1 takes for a text.
    assert lock.stages["train_emd"]["params"] == {"lr": 1e-8, "network": {"kind": "emd"}, "name": "1e"}


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[str, str]:
    """What a run's tag says of the commit, and what is said once on standard error."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return tags("gate", CFG, {})["git.commit"], provenance.unread_repository()


def test_a_repository_of_another_user_is_not_one_without_a_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, said = refused(monkeypatch, GIT_TEST_ASSUME_DIFFERENT_OWNER="1", GIT_CONFIG_GLOBAL="/dev/null")
    assert known == "unknown (the repository belongs to another user, which git refuses)"
    assert said.endswith(f"`git config --global --add safe.directory {repository}` helps or says more.")
    helped = repository.parent / "gitconfig"
    helped.write_text(f"[safe]\n  directory = {repository}\n")
    known, said = refused(monkeypatch, GIT_CONFIG_GLOBAL=str(helped))
    assert len(known) == 40 and said == ""


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("rm -rf .git && git init -q .", "the repository has no commit yet"),
        ("rm -rf .git && echo 'gitdir: /gone' > .git", "the repository of this worktree is not here"),
    ],
)
def test_a_repository_that_tells_no_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, reason: str
) -> None:
    subprocess.run(spoil, shell=True, check=True)
    known, said = refused(monkeypatch)
    assert known == f"unknown ({reason})" and reason in said and "`git status`" in said


def test_without_git_and_without_a_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, said = refused(monkeypatch, PATH=str(repository))
    assert known == "unknown (git is not installed)" and "git is not installed" in said
    monkeypatch.undo()
    monkeypatch.delenv("EMD_GIT_COMMIT", raising=False)
    (repository.parent / "archive").mkdir()
    monkeypatch.chdir(repository.parent / "archive")  # unpacked: there is nothing to be said
    assert refused(monkeypatch) == ("unknown (no git repository is here)", "")


@pytest.mark.parametrize("how", ["checkout -q --detach", "worktree add -q tree", "clone -q --depth 1 file://$PWD s"])
def test_unusual_checkouts_know_their_commit(repository: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    head = provenance.commit()
    subprocess.run(f"git {how}", shell=True, check=True)
    for place in (repository, repository / "tree", repository / "s"):
        if place.exists():
            monkeypatch.chdir(place)
            assert refused(monkeypatch) == (head, "")


def test_parameters_are_recorded_without_passwords(tmp_path: Path) -> None:
    class Fetch(Config):
        source: str

    provenance.write(tmp_path, Fetch(source="https://me:p@ssw0rd@host/data.git"))
    assert "ssw0rd" not in (tmp_path / provenance.RECORD).read_text()
    assert provenance.parameters(Fetch(source="s3://bucket/a  b")) == {"source": "s3://bucket/a  b"}
    nested = {"fetch_data": {"sources": ["https://me:pw@host"], "n": 1}}  # as lineage reads them from params.yaml
    assert provenance.without_secrets(nested) == {"fetch_data": {"sources": ["https://host"], "n": 1}}
