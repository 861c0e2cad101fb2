"""Which test files start first: with the longest last, one process would end minutes after the other."""

from pathlib import Path

import pytest

TRAININGS = Path(__file__).parent / "training", Path(__file__).parent / "detection"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent not in TRAININGS)
