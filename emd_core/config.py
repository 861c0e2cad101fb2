"""Parameters: every value lives in params.yaml, its type beside the code that reads it."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from emd_core.errors import UserError
from emd_core.reading import TEXT, read_text, reading


class Config(BaseModel):
    """A frozen section of params.yaml; unknown keys and values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=Config)


def read_params(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The sections of a params file, each a dict.

    A file may name another one as its `base`, relative to itself: the keys of its sections are laid over the base's.
    `changes` are laid over both, each "section.key=value" with a YAML value; keys within a key may follow.
    """
    text = read_text(path, TEXT, "pass --params with the path of a params file")
    with reading(path, "valid YAML", "mend the file"):
        params = yaml.safe_load(text)
    if not isinstance(params, dict) or not all(isinstance(v, dict) for k, v in params.items() if k != "base"):
        raise UserError(f"{path} holds no sections; it must map stage names to their values, as params.yaml does.")
    if "base" in params:
        sections = read_params(path.parent / params.pop("base"))
        params = {name: sections.get(name, {}) | params.get(name, {}) for name in sections | params}
    return lay_over(params, changes)


def lay_over(params: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The sections with each "section.key=value" of `changes` set in place."""
    for change in changes:
        _set(params, change)
    return params


def _set(params: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    *path, last = key.split(".")
    place: Any = params
    for name in path:
        place = place.get(name) if isinstance(place, dict) else None
    if not equals or not path or not isinstance(place, dict):
        raise UserError(
            f"--set {change} names no value; it must be section.key=value with a known section, "
            "such as train_emd.lr=1e-3."
        )
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {change}: the value is not valid YAML; quote it as one argument.") from None


def section(params: Mapping[str, Any], name: str, model: type[C], where: str) -> C:
    """Section `name` as a validated `model`; `where` names the source of `params` in errors."""
    if name not in params:
        raise UserError(f"{where} has no section '{name}'; add it, or start from the repository's params.yaml.")
    try:
        return model.model_validate(params[name])
    except ValidationError as error:
        raise UserError(f"{where}: " + " ".join(_explain(name, e, model) for e in error.errors())) from None


def _explain(section_name: str, error: Any, model: type[Config]) -> str:
    key = ".".join([section_name, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        known = model.model_fields if len(error["loc"]) == 1 else {}
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else f"known keys are {', '.join(known)}."
        remedy = remedy if known else "correct or remove it (the repository's params files show every key)."
        return f"{key} is not a known key; {remedy}"
    if error["type"] == "missing":
        return f"{key} is missing; add it (the repository's params.yaml shows every key)."
    return f"{key} = {error['input']!r} is refused ({error['msg']}); correct the value."


def digest(value: Any) -> str:
    """Twelve hex digits that identify a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
