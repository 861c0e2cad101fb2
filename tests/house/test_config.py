"""Params files: a base and what is laid over it, values from the command line."""

from pathlib import Path

import pytest

from emd_core.config import Config, read_params, section
from emd_core.errors import UserError


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
