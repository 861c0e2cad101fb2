"""Many crops on one picture, each with its mask and a caption."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emd_core.storage.masks import Mask

TILE = 150  # px, side of a crop on the sheet
GAP = 8  # px
LINE = 14  # px, height of a line of a caption
TEXT_SIZE = 11  # px
TINT, OUTLINE = (255, 60, 60), (255, 230, 0)  # of what was manipulated


class Tile(NamedTuple):
    crop: NDArray[np.uint8]  # square, HWC RGB
    mask: Mask | None  # of the crop's size; None where it is not known
    caption: Sequence[str]


def contact_sheet(tiles: Sequence[Tile], columns: int) -> NDArray[np.uint8]:
    """The tiles row by row, HWC uint8 RGB; a caption that is too wide is cut in its middle."""
    lines = max(len(tile.caption) for tile in tiles)
    width, height = TILE + GAP, TILE + GAP + lines * LINE
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_SIZE)
    for i, tile in enumerate(tiles):
        x, y = GAP + i % columns * width, GAP + i // columns * height
        sheet.paste(Image.fromarray(overlay(tile.crop, tile.mask, TILE)), (x, y))
        for number, text in enumerate(tile.caption):
            draw.text((x, y + TILE + 1 + number * LINE), shorten(text, font), fill="black", font=font)
    return np.asarray(sheet, dtype=np.uint8)


def overlay(crop: NDArray[np.uint8], mask: Mask | None, size: int) -> NDArray[np.uint8]:
    """The crop at `size` px, tinted and outlined where the mask is."""
    image = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    if mask is not None and mask.any():
        on = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
        image = np.where(on[..., None] > 0, 0.8 * image + 0.2 * np.array(TINT), image).astype(np.uint8)
        contours, _ = cv2.findContours(on, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, OUTLINE, 1)
    return np.asarray(image, dtype=np.uint8)


def shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, with its middle left out where it is wider than a tile."""
    kept = len(text)
    short = text
    while font.getlength(short) > TILE and kept > 2:
        kept -= 1
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return short
