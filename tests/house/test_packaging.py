"""What `pip install` of the project brings, and what its Makefile promises."""

import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.house.contract import FLOORS, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, unpacked; built from a clone, so that no old build lends it a file."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in files.strip("\0").split("\0"):
        if (ROOT / file).is_file() and file.split("/")[0] in (*FLOORS, "pyproject.toml", "README.md", "LICENSE"):
            (folder / "source" / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / file).write_bytes((ROOT / file).read_bytes())
    build = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=folder / "source", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / done.stdout.splitlines()[-1]) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_has_every_module_and_every_template(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for suffix in ("py", "j2", "js", "yaml")
        for path in (ROOT / floor).rglob(f"*.{suffix}")
    }
    assert wanted - {str(path.relative_to(wheel)) for path in wheel.rglob("*")} == set()
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == set(FLOORS)


def test_every_module_of_the_wheel_imports(wheel: Path) -> None:
    names = [".".join(path.relative_to(wheel).with_suffix("").parts) for path in wheel.glob("[!.]*/**/*.py")]
    modules = sorted(name.removesuffix(".__init__") for name in names if not name.endswith("__main__"))
    assert len(modules) > 100
    code = f"import importlib, emd_core\nassert emd_core.__file__.startswith({str(wheel)!r})\n"
    code += f"for name in {modules}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=wheel,
        env={"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_make_ui_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            ["make", "-o", "setup", "ui", f"PORT={port}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert f"error: port {port} cannot be had; choose another one, such as make ui PORT=5001." in done.stderr
