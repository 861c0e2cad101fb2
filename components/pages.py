"""HTML pages from the templates beside this file: one file each, pictures and style inside, nothing fetched."""

from pathlib import Path
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """The page of `<template>.html.j2`; a value that the template needs and does not get is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(f"{template}.html.j2").render(values)
