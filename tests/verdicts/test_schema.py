"""docs/verdict.schema.json is that of the code, and holds for a verdict."""

import json
from pathlib import Path

import jsonschema

from emd_core.verdicts.schema import schema
from tests.verdicts.test_table import unreadable, verdict

PAGE = Path(__file__).parents[2] / "docs/verdict.schema.json"


def test_the_schema_in_docs_is_current() -> None:
    remedy = "write it anew: python -m emd_core.verdicts.schema > docs/verdict.schema.json"
    assert PAGE.read_text(encoding="utf-8") == schema(), remedy


def test_a_verdict_keeps_to_the_schema() -> None:
    declared = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(declared)
    for one in (verdict(), unreadable()):
        jsonschema.validate(json.loads(one.model_dump_json()), declared)
