"""`python -m emd_core.verdicts.schema > docs/verdict.schema.json`: the JSON Schema of verdict.json."""

import json

from emd_core.verdicts.verdict import Verdict


def schema() -> str:
    """JSON, with a line break at its end."""
    declared = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Verdict.model_json_schema()
    return json.dumps(declared, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
