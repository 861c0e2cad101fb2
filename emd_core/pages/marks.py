"""Faces marked in a picture: box, mask and words, in a colour that says the answer."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emd_core.verdicts.judge import Look, within
from emd_core.verdicts.verdict import Answer, Track

Picture = NDArray[np.uint8]  # HWC RGB
Colour = tuple[int, int, int]

# Told apart by people who see no red or no green, too, and light enough for black words on them.
COLOURS: dict[Answer, Colour] = {
    Answer.MANIPULATED: (255, 140, 0),
    Answer.NOTHING: (120, 195, 240),
    Answer.UNKNOWN: (225, 225, 225),
}
TINT = 0.25  # share of the colour where pixels are manipulated
HALF = 127  # of 255: from here on a pixel is taken for manipulated


class Mark(NamedTuple):
    """What is drawn of a face."""

    x: float  # left edge of its square, px of the picture
    y: float  # upper edge
    side: float
    mask: NDArray[np.uint8] | None  # SS, of the square; probability that a pixel is manipulated, 255 = 1
    answer: Answer
    now: bool  # whether it is manipulated at this very moment
    words: str  # beside the box


def mark(track: Track, look: Look, box: tuple[float, float, float], time_s: float) -> Mark:
    """What is drawn of a track at a time, in the square `box` (x, y, side) of the picture."""
    now = within(time_s, track.stretches)
    said = f"face {track.number}: {f'{track.answer} ' if now else ''}{look.seen.score:.2f}"
    return Mark(*box, look.mask, track.answer, now, said)


def draw_mark(image: Picture, mark: Mark) -> None:
    """Draw a face's mark into `image`; what lies outside of the picture is left out."""
    colour, thick = COLOURS[mark.answer], max(1, round(min(image.shape[:2]) / 360))
    x, y, side = round(mark.x), round(mark.y), max(1, round(mark.side))
    draw_mask(image, mark.mask, (x, y, side), colour, tinted=mark.now)
    cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), colour, 2 * thick if mark.now else thick)
    words = label(mark.words, max(11, round(min(image.shape[:2]) / 32)), colour)
    paste(image, words, x, y - len(words) if y >= len(words) else y)


def draw_mask(
    image: Picture, mask: NDArray[np.uint8] | None, square: tuple[int, int, int], colour: Colour, *, tinted: bool
) -> None:
    """Outline a mask in the square (x, y, side) of `image`; tinted, where it counts as manipulated. None: no mask."""
    x, y, side = square
    height, width = image.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if mask is None or left >= right or top >= bottom or mask.max() <= HALF:
        return
    whole = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    on = (whole[top - y : bottom - y, left - x : right - x] > HALF).astype(np.uint8)
    part = image[top:bottom, left:right]
    if tinted:
        mixed = cv2.addWeighted(part, 1 - TINT, np.full_like(part, colour), TINT, 0)
        part[on > 0] = mixed[on > 0]
    contours, _ = cv2.findContours(on, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined = np.ascontiguousarray(part)
    cv2.drawContours(outlined, contours, -1, colour, max(1, round(side / 160)), cv2.LINE_AA)
    part[:] = outlined


@lru_cache(maxsize=1024)
def label(words: str, size: int, ground: Colour) -> Picture:
    """Words of `size` px on a coloured ground."""
    font = ImageFont.load_default(size)
    tile = Image.new("RGB", (round(font.getlength(words)) + size // 2, round(size * 1.4)), ground)
    ink = "black" if sum(ground) > 300 else "white"
    ImageDraw.Draw(tile).text((size // 4, tile.height // 2), words, fill=ink, font=font, anchor="lm")
    return np.asarray(tile, dtype=np.uint8)


def paste(image: Picture, tile: Picture, x: int, y: int) -> None:
    """Lay a tile into `image`, moved as far as it must be to lie within, and cut where it is larger."""
    height, width = min(len(tile), len(image)), min(tile.shape[1], image.shape[1])
    x, y = min(max(x, 0), image.shape[1] - width), min(max(y, 0), image.shape[0] - height)
    image[y : y + height, x : x + width] = tile[:height, :width]
