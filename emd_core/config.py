"""Parameters: every value lives in params.yaml, its type beside the code that reads it."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from emd_core.errors import UserError


class Config(BaseModel):
    """A frozen section of params.yaml; unknown keys and values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=Config)


def read_params(path: Path) -> dict[str, Any]:
    """The sections of a params file, each a dict."""
    try:
        params = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; pass --params with the path of a params file.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML ({' '.join(str(error).split())}); mend the file.") from None
    if not isinstance(params, dict):
        raise UserError(f"{path} holds no sections; it must map stage names to their values, as params.yaml does.")
    return params


def section(params: Mapping[str, Any], name: str, model: type[C], where: str) -> C:
    """Section `name` as a validated `model`; `where` names the source of `params` in errors."""
    if name not in params:
        raise UserError(f"{where} has no section '{name}'; add it, or start from the repository's params.yaml.")
    try:
        return model.model_validate(params[name])
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_explain(name, e, model) for e in error.errors())) from None


def _explain(section_name: str, error: Any, model: type[Config]) -> str:
    key = ".".join([section_name, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else f"known keys are {', '.join(model.model_fields)}."
        return f"{key} is not a known key; {remedy}"
    if error["type"] == "missing":
        return f"{key} is missing; add it (the repository's params.yaml shows every key)."
    return f"{key} = {error['input']!r} is refused ({error['msg']}); correct the value."


def digest(value: Any) -> str:
    """Twelve hex digits that identify a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
