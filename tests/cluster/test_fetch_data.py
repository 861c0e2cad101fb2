"""Data of one revision arrive whole, once, from a real DVC repository or a bucket-like place."""

import subprocess
from pathlib import Path

import fsspec
import mlflow
import pytest

from components import fetch_data as module
from components.fetch_data import FetchData, fetch_data
from emd_core.errors import UserError


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC repository whose data differ between the revisions v1 and v2."""
    root = tmp_path_factory.mktemp("repository")
    git(root, "init", "-q")
    subprocess.run(["dvc", "init", "-q"], cwd=root, check=True)
    for revision in ("v1", "v2"):
        for folder in ("ffpp/a", "affectnet"):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            (root / "data" / folder / "file.txt").write_text(f"{folder} {revision}")
        subprocess.run(["dvc", "add", "-q", "data/ffpp", "data/affectnet"], cwd=root, check=True)
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", revision)
        git(root, "tag", revision)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a store of runs."""
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture(autouse=True)
def _tracking(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")


def config(source: str, revision: str = "v1") -> FetchData:
    return FetchData(source=source, revision=revision, dataset="data/ffpp", expressions="data/affectnet")


def fetch(cfg: FetchData, out: Path) -> str:
    fetch_data(cfg, dataset=out / "dataset", expressions=out / "expressions")
    return (out / "dataset/a/file.txt").read_text()


def test_a_dvc_repository_at_a_revision(repository: Path, tmp_path: Path) -> None:
    assert fetch(config(str(repository)), tmp_path / "1") == "ffpp/a v1"
    assert fetch(config(str(repository), "v2"), tmp_path / "2") == "ffpp/a v2"
    assert (tmp_path / "1/expressions/file.txt").read_text() == "affectnet v1"
    runs = mlflow.search_runs(search_all_experiments=True, filter_string="tags.stage = 'fetch_data'")
    assert runs["params.revision"].tolist()[:2] == ["v2", "v1"]  # where the lineage of a model ends


def test_what_is_there_is_left_as_it_is(repository: Path, tmp_path: Path) -> None:
    fetch(config(str(repository)), tmp_path)
    assert fetch(config("volume"), tmp_path) == "ffpp/a v1"
    assert fetch(config(str(repository), "no-such-revision"), tmp_path) == "ffpp/a v1"


def test_a_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for folder in ("ffpp/a", "affectnet"):
        memory.pipe(f"/bucket/data/{folder}/file.txt", folder.encode())
    monkeypatch.setattr(module, "BUCKETS", ("memory://",))
    assert fetch(config("memory://bucket"), tmp_path) == "ffpp/a"
    cfg = config("memory://bucket").model_copy(update={"dataset": "data/dfdc"})
    with pytest.raises(UserError, match="memory://bucket has no data/dfdc"):
        fetch(cfg, tmp_path / "2")
    assert not (tmp_path / "2/dataset").exists()


def test_what_cannot_be_had_is_said_and_leaves_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="does not exist on the volume; put the data there"):
        fetch(config("volume"), tmp_path)
    with pytest.raises(UserError, match="data/ffpp at v9 failed .*; correct fetch_data"):
        fetch(config(str(repository), "v9"), tmp_path)
    monkeypatch.setenv("GIT_TOKEN", "s3cret")
    with pytest.raises(UserError) as refused:
        fetch(config("https://127.0.0.1:9/no/such.git"), tmp_path)
    assert "s3cret" not in str(refused.value)
    monkeypatch.delenv("GIT_TOKEN")
    with pytest.raises(UserError, match="dvc get https://127.0.0.1:9/no/such.git data/ffpp at v1 failed") as refused:
        fetch(config("https://me:p@ssw0rd#2@127.0.0.1:9/no/such.git"), tmp_path)
    assert "ssw0rd" not in str(refused.value)
    recorded = " ".join(str(run.data.params) for run in mlflow.search_runs(output_format="list"))
    assert "'https://127.0.0.1:9/no/such.git'" in recorded and "ssw0rd" not in recorded
    assert list(tmp_path.iterdir()) == []
