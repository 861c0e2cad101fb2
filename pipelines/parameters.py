"""NAME=VALUE -> values for a run, of the types that the package declares, each checked as the compiler would."""

import difflib
import json
from typing import Annotated, Any

from kfp.pipeline_spec import pipeline_spec_pb2
from pydantic import AfterValidator, Field, Json, create_model

from components.command_line.stages import section_type
from emd_core.config import Config, section
from emd_core.errors import UserError
from pipelines.cluster import TASKS, Name, Pool

OnVolume = Annotated[str, Field(pattern=r"^[^./:][^:]*$", description="A folder, as seen from the volume's root.")]


def typed_parameters(spec: Any, assignments: list[str] | None) -> dict[str, Any]:
    """The values; UserError for what the package does not know or what its stages or nodes would refuse."""
    declared = spec.root.input_definitions.parameters
    values: dict[str, Any] = {}
    for assignment in assignments or []:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--parameter {assignment} has no value; write NAME=VALUE.")
        if name not in declared:
            close = difflib.get_close_matches(name, declared, n=1)
            remedy = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(sorted(declared))}."
            raise UserError(f"--parameter {name}: the pipeline has no such parameter; {remedy}")
        values[name] = _typed(name, text, declared[name])
    missing = [n for n, p in declared.items() if not (p.is_optional or p.HasField("default_value") or n in values)]
    if missing:
        raise UserError("the pipeline needs " + " ".join(f"--parameter {name}=…" for name in sorted(missing)) + ".")
    rules = {name: rule for name in values if (rule := _rule(name)) is not None}
    ruled = {name: values[name] for name in rules}
    section({"parameter": ruled}, "parameter", create_model("Parameters", __base__=Config, **rules), "this run")
    return values


def _typed(name: str, text: str, declaration: Any) -> Any:
    kind = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(declaration.parameter_type)
    if kind == "STRING":
        return text
    wanted: dict[str, tuple[type, ...]] = {
        "NUMBER_INTEGER": (int,),
        "NUMBER_DOUBLE": (int, float),
        "BOOLEAN": (bool,),
        "LIST": (list,),
        "STRUCT": (dict,),
    }
    try:
        value = json.loads(text.lower() if kind == "BOOLEAN" else text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, wanted[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
        raise UserError(f"--parameter {name}={text} is not of type {kind}; write it as JSON.")
    return value


def _all_shards(shards: list[str]) -> list[str]:
    if not shards or shards != [f"{k}/{len(shards)}" for k in range(1, len(shards) + 1)]:
        raise ValueError('must name every shard once, in order, such as ["1/2", "2/2"]')
    return shards


def _rule(name: str) -> Any:
    """What pydantic asks of the pipeline's parameter of that name; None for any value."""
    if name.endswith("_cfg") and (stage := name.removesuffix("_cfg")) in TASKS:
        model = section_type(stage)
        return Json[model], ...  # type: ignore[misc, valid-type]
    role, _, field = name.partition("_")
    if role in ("cpu", "gpu") and field in Pool.model_fields:
        return Pool.model_fields[field].annotation, Pool.model_fields[field]
    known: dict[str, Any] = {
        "shards": Annotated[list[str], AfterValidator(_all_shards)],
        "claim": Name,
        "videos": OnVolume,
        "verdicts": OnVolume,
    }
    return (known[name], ...) if name in known else None
