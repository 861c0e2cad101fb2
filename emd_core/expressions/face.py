"""One labelled face."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Face:
    """An image file, its expression's class id and where the face is: x, y, width, height; None = all of the image."""

    path: Path
    label: int
    box: tuple[int, int, int, int] | None
