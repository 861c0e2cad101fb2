"""HTML pages from the templates beside this file: one file each, pictures and style inside, nothing fetched."""

from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent  # the style lies here, whatever folder a page is from


def render(template: str, folder: Path = HERE, /, **values: Any) -> str:
    """The page of `<folder>/<template>.html.j2`; a value that the template needs and does not get is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(f"{template}.html.j2").render(values)
