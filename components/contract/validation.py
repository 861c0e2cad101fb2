"""Great Expectations, run on tables in memory: nothing is stored, nothing is fetched."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations import Expectation


def run_expectations(
    tables: "Mapping[str, tuple[pd.DataFrame, list[Expectation]]]",
) -> list[dict[str, Any]]:
    """Validate each table against its expectations; the checks of all tables in one list, as `as_check` makes them.

    The first column of a table names the rows that break an expectation.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas("tables")
    checks: list[dict[str, Any]] = []
    for name, (table, expectations) in tables.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        validation = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        done = context.validation_definitions.add(validation).run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "SUMMARY", "unexpected_index_column_names": [table.columns[0]]},
        )
        checks += [as_check(result, table.columns[0]) for result in done.results]
    return checks


def as_check(result: "ExpectationValidationResult", key: str) -> dict[str, Any]:
    """One expectation's result: name, severity, success, and what was observed as a phrase; `key` names rows."""
    details, config = result.result, result.expectation_config
    assert config is not None  # every result of a suite carries the expectation it answers
    if "unexpected_count" in details:
        observed = f"{details['unexpected_count']} of {details['element_count']} break it"
        rows = details.get("partial_unexpected_index_list") or []
        examples = list(dict.fromkeys(str(row[key]) for row in rows))[:3]
        observed += f", e.g. {', '.join(examples)}" if examples else ""
    else:
        observed = str(details["observed_value"])
    return {
        "name": config.description,
        "severity": config.severity.value,
        "success": bool(result.success),
        "observed": observed,
    }
