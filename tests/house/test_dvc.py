"""Data prepared on one machine is pulled on another, and only what a change concerns is made anew."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = ["make_sample", "ingest", "extract_frames", "crop_faces", "generate_masks"]
SMALL = {
    "make_sample": {"train_pairs": 1, "val_pairs": 1, "test_pairs": 1, "frames": 4, "width": 160, "height": 120}
    | {"train_expressions": 1, "val_expressions": 1, "workers": 1},
    "ingest": {"methods": ["Face2Face"], "qualities": ["c23"], "workers": 1},
    "extract_frames": {"train": 2, "val": 1, "test": 1, "workers": 1},
    "crop_faces": {"size": 48, "min_face": 24, "max_bad_share": 1.0, "workers": 1},
    "generate_masks": {"max_bad_share": 1.0, "workers": 1},
}
UP_TO_DATE = "Data and pipelines are up to date."  # what the CI of this repository looks for, too


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def set_params(repo: Path, **changes: dict[str, object]) -> None:
    params = yaml.safe_load((repo / "params.yaml").read_text())
    sections = {name: params[name] | changes.get(name, {}) for name in params}
    (repo / "params.yaml").write_text(yaml.safe_dump(sections))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose data stages ran and whose outputs lie on a remote, a folder."""
    repo = tmp_path_factory.mktemp("dvc") / "repo"
    for folder in ("components", "emd_core"):
        shutil.copytree(ROOT / folder, repo / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", repo)
    set_params(repo, **SMALL)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (repo / "dvc.yaml").write_text(yaml.safe_dump({"stages": {name: stages[name] for name in STAGES}}))
    (repo / ".gitignore").write_text("__pycache__/\n")
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    run("git", "init", "-q", cwd=repo)
    run("dvc", "init", "-q", cwd=repo)
    run("dvc", "remote", "add", "-q", "--default", "shared", str(repo.parent / "remote"), cwd=repo)
    run("dvc", "repro", cwd=repo)
    run("dvc", "push", cwd=repo)
    run("git", "add", ".", cwd=repo)
    run(*git, "commit", "-q", "-m", "data", cwd=repo)
    return repo


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_a_fresh_clone_pulls_the_data_and_makes_only_what_changed(prepared: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(prepared), str(clone), cwd=tmp_path)
    check = ("dvc", "repro", "--dry", "--allow-missing")
    assert UP_TO_DATE in run(*check, cwd=clone)

    set_params(clone, crop_faces={"size": 32})
    stale = subprocess.run(check, cwd=clone, capture_output=True, text=True, check=False)
    assert UP_TO_DATE not in stale.stdout and "crop_faces" in stale.stdout + stale.stderr
    assert ran(run("dvc", "repro", "--pull", "--allow-missing", cwd=clone)) == ["crop_faces", "generate_masks"]
    assert not (clone / "data/affectnet").exists()  # what nothing needed was not fetched

    run("git", "checkout", "-q", ".", cwd=clone)
    run("dvc", "pull", cwd=clone)
    for stage in ("faces", "masks"):
        table = f"data/{stage}/manifest.parquet"
        assert (clone / table).read_bytes() == (prepared / table).read_bytes()
    assert ran(run("dvc", "repro", cwd=clone)) == []


def test_an_unpacked_archive_needs_no_git(tmp_path: Path) -> None:
    """As `make setup` prepares it; nothing else is asked of git."""
    for name in ("Makefile", "dvc.yaml", "params.yaml", ".dvc/config", "requirements.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    shutil.copy(ROOT / "requirements.lock", tmp_path / ".venv/.lock")
    for folder in ("components", "emd_core", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert (
        "is not a git repository"
        in subprocess.run(["dvc", "status"], cwd=tmp_path, capture_output=True, text=True).stderr
    )
    run("make", "setup", cwd=tmp_path)
    run("dvc", "repro", "--dry", "make_sample", cwd=tmp_path)
