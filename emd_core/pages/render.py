"""HTML pages from the templates beside this file: one file each, pictures and style inside, nothing fetched."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent  # the style lies here, whatever folder a page is from


def render(template: str, folder: Path = HERE, /, **values: Any) -> str:
    """The page of `<folder>/<template>.html.j2`; a value that the template needs and does not get is an error."""
    return _environment(folder).get_template(f"{template}.html.j2").render(values)


@cache
def _environment(folder: Path) -> jinja2.Environment:
    """Kept, as it keeps its templates: to compile one takes longer than to render it."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE]),
        autoescape=True,
        auto_reload=False,  # a template belongs to the code that is running, whatever is installed meanwhile
        undefined=jinja2.StrictUndefined,
    )
