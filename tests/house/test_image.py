"""What the container image holds, as far as files tell it: `make e2e` builds and runs it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from components.command_line.exits import TELEMETRY_OFF
from tests.house.contract import ROOT, imports

OURS = {"components", "emd_core"}
# What the DAG's steps call beside our modules: `dvc get` from either cloud, TrainJobs.
CALLED = {"dvc", "dvc-s3", "dvc-gs", "kubernetes"}
DEVELOPERS = {
    "kfp",
    "kfp-kubernetes",
    "kubernetes-validate",
    "pytest",
    "mypy",
    "ruff",
    "pre-commit",
    "pip",
    "triton",
    "uv",
}


def lock(name: str) -> dict[str, str]:
    """Distribution -> version; a line that is not NAME==VERSION fails."""
    lines = (ROOT / name).read_text().splitlines()
    pins = [re.fullmatch(r"([a-z0-9-]+)==([\w.+]+)", line) for line in lines]
    assert all(pins), f"{name}: {[line for line, pin in zip(lines, pins, strict=True) if not pin]}"
    return {pin[1]: pin[2] for pin in pins if pin}


def unprovided(imported: set[str], locked: set[str]) -> set[str]:
    """Top-level modules among `imported` that no distribution of the lock provides."""
    provided = {
        module
        for module, names in packages_distributions().items()
        if {n.lower().replace("_", "-") for n in names} & locked
    }
    return imported - provided - OURS - sys.stdlib_module_names


def imported_by(floors: set[str]) -> set[str]:
    """Top-level names of all that the modules of `floors` import, wherever in a file."""
    modules = [module for module in imports().modules if module.split(".")[0] in floors]
    return {used.split(".")[0] for m in modules for used in imports().find_modules_directly_imported_by(m)}


@pytest.fixture(scope="module")
def image_lock() -> dict[str, str]:
    return lock("requirements.image.lock")


def test_the_image_has_what_its_code_imports_and_calls(image_lock: dict[str, str]) -> None:
    assert unprovided(imported_by(OURS), set(image_lock)) == set()
    assert set(image_lock) >= CALLED


def test_an_import_of_something_else_is_seen(image_lock: dict[str, str]) -> None:
    assert unprovided(imported_by({"pipelines"}) - {"pipelines"}, set(image_lock)) == {"kfp", "kfp_server_api"}


def test_the_image_has_the_versions_that_are_tested_and_no_tools(image_lock: dict[str, str]) -> None:
    assert image_lock.items() <= lock("requirements.lock").items()
    assert not DEVELOPERS & set(image_lock)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, arguments), without comments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    return instructions((ROOT / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def final(dockerfile: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    last = max(i for i, (word, _) in enumerate(dockerfile) if word == "FROM")
    yield dockerfile[last:]


def test_any_engine_can_build_it(dockerfile: list[tuple[str, str]]) -> None:
    """The old builder knows no --mount, and a syntax line is pulled from a registry that CI lacks."""
    assert "syntax=" not in (ROOT / "Dockerfile").read_text()
    assert not [text for _, text in dockerfile if "--mount" in text or "--chmod" in text or "--link" in text]
    assert {text.split()[0] for word, text in dockerfile if word == "FROM"} == {"${BASE_IMAGE}"}


def test_it_runs_as_nobody_in_particular_and_has_no_entrypoint(final: list[tuple[str, str]]) -> None:
    words = [word for word, _ in final]
    assert "ENTRYPOINT" not in words
    assert ("HEALTHCHECK", "NONE") in final
    user, group = dict(final)["USER"].split(":")
    assert int(user) > 0 and int(group) > 0


def test_its_environment(final: list[tuple[str, str]]) -> None:
    values = dict(pair.split("=", 1) for word, text in final if word == "ENV" for pair in text.split())
    assert TELEMETRY_OFF.items() <= values.items()
    assert values["EMD_GIT_COMMIT"] == "${REVISION}"
    assert values["PATH"].startswith("/opt/venv/bin:")


def test_the_builder_installs_with_the_uv_that_is_locked(dockerfile: list[tuple[str, str]]) -> None:
    named = {version for _, text in dockerfile for version in re.findall(r"uv==([\w.]+)", text)}
    assert named == {lock("requirements.lock")["uv"]}


def test_the_builder_is_sent_what_is_copied_and_nothing_else(dockerfile: list[tuple[str, str]]) -> None:
    copied = {text.split()[0] for word, text in dockerfile if word == "COPY" and "--from" not in text}
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied


def test_engine_says_why_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / ".ci" / "engine"), "start", str(tmp_path / "engine")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no Docker engine: none answers, and only root can start one\n"
