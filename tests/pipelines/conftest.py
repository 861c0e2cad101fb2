"""What all tests of the pipelines share."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import pytest
from kfp.dsl import pipeline_task


@pytest.fixture(scope="session", autouse=True)
def cheap_stack() -> Iterator[None]:
    """KFP asks `inspect.stack()` for the name of its caller at every setting of a task. Under xdist, some of whose
    frames come from no file, that searches all loaded modules: a pipeline then takes 20 s to compile instead of one."""

    def stack() -> list[tuple[object, ...]]:
        return [(None,) * 4, (None, None, None, sys._getframe(2).f_code.co_name)]

    with mock.patch.object(pipeline_task, "inspect", SimpleNamespace(stack=stack)):
        yield
