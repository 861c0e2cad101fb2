"""Params files: a base and what is laid over it, values from the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml

from emd_core.config import Config, read_params, section
from emd_core.errors import UserError
from tests.house.contract import ROOT

PROFILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]


class Stage(Config):
    lr: float
    network: dict[str, int]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("stage: {lr: 0.1, network: {size: 1}}\nother: {a: 1}\n")
    path = tmp_path / "over.yaml"
    path.write_text("base: base.yaml\nstage: {network: {depth: 2}}\n")
    return path


def test_keys_are_laid_over_the_base_and_replace_what_was_there(params: Path) -> None:
    assert read_params(params) == {"stage": {"lr": 0.1, "network": {"depth": 2}}, "other": {"a": 1}}


def test_changes_from_the_command_line_win(params: Path) -> None:
    changed = read_params(params, ["stage.lr=1e-3", "stage.network.size=3", "other.b=[x, y]"])
    assert changed["other"] == {"a": 1, "b": ["x", "y"]}
    assert section(changed, "stage", Stage, "here") == Stage(lr=0.001, network={"depth": 2, "size": 3})


@pytest.mark.parametrize("change", ["stage.lr", "lr=3", "stag.lr=3", "stage.lr.x=3", "stage.lr=[1"])
def test_a_change_that_names_nothing_is_refused(params: Path, change: str) -> None:
    with pytest.raises(UserError, match="--set stag|--set lr"):
        read_params(params, [change])


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: none.yaml\n")
    with pytest.raises(UserError, match=r"none\.yaml does not exist"):
        read_params(tmp_path / "a.yaml")


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_every_value_can_be_set_by_dvc_exp_run(profile: Path, tmp_path: Path) -> None:
    """`dvc exp run -S <file>:<key>=<value>` knows each key of what is shipped; its grammar refuses "/" in one."""
    shipped = load_yaml(profile)
    emptied = shutil.copy(profile, tmp_path)
    apply_overrides(emptied, [f"{key}=emptied" for key, _ in leaves(shipped)])
    assert all(value == "emptied" for _, value in leaves(load_yaml(emptied)))
    apply_overrides(emptied, [f"{key}={json.dumps(value)}" for key, value in leaves(shipped)])
    assert load_yaml(emptied) == shipped
