"""The CI workflow: what it may do, and that the commands of its steps still do what their names say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
JOBS: dict[str, Any] = WORKFLOW["jobs"]
STEPS: list[dict[str, Any]] = [step for job in JOBS.values() for step in job["steps"]]
STAGE = """
stages:
  evaluate:
    cmd: mkdir -p evaluation && cp params.yaml evaluation/metrics.yaml
    params: [accuracy]
    outs: [evaluation]
metrics: [evaluation/metrics.yaml]
"""


def run(step_id: str, folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """The commands of that step, in `folder`, in the shell that GitHub starts for them; its temporary files beside."""
    (commands,) = [step["run"] for step in STEPS if step.get("id") == step_id]
    assert WORKFLOW["defaults"]["run"]["shell"] == "bash"
    names = ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")
    github = {"RUNNER_TEMP": str(folder.parent), **{n: str(folder.parent / n) for n in names}, "GITHUB_SHA": "0123abc"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", commands],
        cwd=folder,
        env=os.environ | github | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | env,
        capture_output=True,
        text=True,
    )


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def dvc(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True, capture_output=True)


def test_it_runs_for_pushes_and_pull_requests() -> None:
    assert set(WORKFLOW[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert WORKFLOW["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 60 for job in JOBS.values())


def test_only_the_job_that_runs_no_code_of_the_repository_may_write() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    writing = {name: job for name, job in JOBS.items() if "permissions" in job}
    assert {name: job["permissions"] for name, job in writing.items()} == {"comment": {"pull-requests": "write"}}
    assert not any("uses" in step for step in writing["comment"]["steps"])


def test_steps_are_pinned_and_take_no_text_from_outside_as_code() -> None:
    uses = [step["uses"] for step in STEPS if "uses" in step]
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", u) for u in uses)
    assert not any("${{" in step.get("run", "") for step in STEPS)


def test_compile_step_takes_every_profile_and_stops_at_a_broken_one(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "params").mkdir(parents=True)
    for name in ("components", "emd_core", "pipelines"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("ffpp.yaml", "ffpp-experiments.yaml"):
        shutil.copy(ROOT / "params" / name, folder / "params")
    (folder / "params/ffpp.z.yaml").write_text("base: ffpp.yaml\ntrain_emd: {epochs: -1}\n")
    done = run("compile", folder)
    assert "params/ffpp.yaml" in done.stdout and "experiments" not in done.stdout
    assert done.returncode == 2 and "params/ffpp.z.yaml" in done.stderr and "epochs" in done.stderr, done.stderr


@pytest.fixture(scope="module")
def pull_request(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the branches main and topic, whose metrics differ, and its DVC remote `store` beside it."""
    folder = tmp_path_factory.mktemp("origin")
    repo = folder / "repo"
    git(folder, "init", "--quiet", "--initial-branch=main", str(repo))
    dvc(repo, "init", "--quiet")
    (repo / "dvc.yaml").write_text(STAGE)
    for branch, accuracy in (("main", 0.9), ("topic", 0.8)):
        git(repo, "checkout", "--quiet", "-B", branch)
        (repo / "params.yaml").write_text(f"accuracy: {accuracy}\n")
        dvc(repo, "repro", "--quiet")
        git(repo, "add", "--all")
        git(repo, "commit", "--quiet", "--message", branch)
    dvc(repo, "remote", "add", "--local", "--default", "store", str(folder / "store"))
    dvc(repo, "push", "--quiet", "--all-branches")
    return folder


@pytest.mark.parametrize(
    ("base", "remote", "expected"),
    [
        ("main", "store", r"\| evaluation/metrics.yaml \| accuracy +\| 0.9 +\| 0.8 +\| -0.1 +\|"),
        ("topic", "store", "No metric differs"),
        ("main", "elsewhere", "The DVC remote lacks metrics"),
        ("main", "", "No DVC remote is configured"),
        ("nowhere", "store", "could not be read"),
    ],
)
def test_metrics_step_says_what_differs_or_why_it_cannot(
    pull_request: Path, tmp_path: Path, base: str, remote: str, expected: str
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(pull_request / "repo"), str(clone))
    url = str(pull_request / remote) if remote else ""
    done = run("metrics", clone, BASE=f"origin/{base}", DVC_REMOTE=url, AWS_ENDPOINT_URL="")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert re.search(expected, text), text
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == f"text<<END_OF_METRICS\n{text}END_OF_METRICS\n"
    assert not (clone / ".dvc/cache").exists(), "no data may be pulled"


def test_lock_step_accepts_a_lock_of_this_code_and_refuses_a_changed_param(tmp_path: Path, pull_request: Path) -> None:
    """On a clone without any data, as on a CI machine; `.ci/run` does the same with this repository's own lock."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(pull_request / "repo"), str(clone))
    fresh = run("lock", clone)
    assert fresh.returncode == 0, fresh.stdout + fresh.stderr
    (clone / "params.yaml").write_text("accuracy: 0.1\n")
    stale = run("lock", clone)
    assert stale.returncode != 0 and "::error::dvc.lock" in stale.stdout
