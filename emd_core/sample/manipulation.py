"""The four manipulations of FaceForensics++, each leaving in the frames what the real one leaves.

A manipulation renders a face without the camera's noise and with a limited texture, and blends it into the
target's uncompressed frame. Outside its mask no pixel changes. Strengths are the constants below.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.sample import landmarks as lm
from emd_core.sample.expression import EXPRESSIONS
from emd_core.sample.head import Head, Image, Plane
from emd_core.sample.identity import Identity
from emd_core.sample.light import Light
from emd_core.sample.scene import Take

FACE_FEATHER = 0.03  # standard deviation of the blending edge, head units
MOUTH_FEATHER = 0.03
SWAP_FEATHER = 0.05
FACESWAP_FEATHER = 0.012
F2F_TEXTURE = 0.3  # resolution of the texture, as a share of the canvas's
NT_TEXTURE = 0.28
SWAP_TEXTURE = 0.33
F2F_LIGHT_ERROR = 0.12  # standard deviation of the estimated light's direction
F2F_AMBIENT = 0.03  # what spherical harmonics of low order lose of the contrast
COLOUR_ERROR = 8.0  # standard deviation of a render's offset, grey levels, one value per channel and video
NT_PERIOD = 0.1  # of the ripple, head units: 6 pixels of a 240-line frame
NT_RIPPLE = 6.0  # amplitude of the pattern that transposed convolutions leave, grey levels
SWAP_COLOUR_MATCH = 0.75  # share of the skin colour's difference that the swap takes away
CHANGED = 4  # a pixel whose blending weight (of 255) is below this is left as it was
MASK_RANGE = (25, 254)  # grey levels of a rendered mask


class Manipulation:
    """Renders `head` into the frames of `target`, with the expression of `actor` at the same time.

    `region` (HW, 255 inside) and `texture` live on the head's canvas; `hard_mask` asks for a mask of {0, 255}
    instead of a grey render.
    """

    def __init__(
        self, target: Take, actor: Take, head: Head, region: Image, texture: Callable[[Image], Image], hard_mask: bool
    ) -> None:
        self.target, self.actor, self.head, self.region = target, actor, head, region
        self.texture, self.hard_mask = texture, hard_mask
        low, high = MASK_RANGE
        self.render = np.clip(low + 130 * head.shading, low, high).astype(np.uint8)

    def __call__(self, frame: Image, t: int) -> tuple[Image, Image]:
        """The manipulated frame (HWC uint8 RGB) and its mask (HW uint8, 0 where nothing changed)."""
        view = self.target.view(t)
        canvas, _ = self.head.draw(self.actor.expressions[t], face_only=True)
        weight = view.project(self.region)
        weight[weight < CHANGED] = 0
        share = weight[..., None] * np.float32(1 / 255)
        face = view.project(self.texture(canvas))
        fake = np.rint(frame + (face - frame.astype(np.float32)) * share).astype(np.uint8)
        mask = np.full_like(weight, 255) if self.hard_mask else view.project(self.render)
        mask[weight == 0] = 0
        return fake, mask


def face2face(target: Take, source: Take) -> Manipulation:
    """The target's own face, rendered anew with the source's expression under the light as estimated."""
    rng = _rng(target, source, 0)
    light = target.light
    turn = rng.normal(0, F2F_LIGHT_ERROR, 2)
    estimate = Light(light.x + turn[0], light.y + turn[1], light.ambient + F2F_AMBIENT, light.colour)
    head = Head(target.identity, estimate, target.canvas_unit)
    texture = _offset(_limited(F2F_TEXTURE), rng.normal(0, COLOUR_ERROR, 3))
    region = _feathered(head, _face(target.identity, 0.9), FACE_FEATHER)
    return Manipulation(target, source, head, region, texture, hard_mask=False)


def neural_textures(target: Take, source: Take) -> Manipulation:
    """The target's mouth region, rendered through a neural texture with the source's expression.

    The published method changes a square around the face while its mask shows the face model; here the mask
    covers just what changed, the lower face.
    """
    rng = _rng(target, source, 1)
    head = Head(target.identity, target.light, target.canvas_unit)
    ripple = NT_RIPPLE * _checker(head.size, period=NT_PERIOD * target.canvas_unit)
    texture = _offset(_limited(NT_TEXTURE), rng.normal(0, COLOUR_ERROR, 3) + ripple[..., None])
    region = _feathered(head, _lower_face(target.identity), MOUTH_FEATHER)
    return Manipulation(target, source, head, region, texture, hard_mask=False)


def deepfakes(target: Take, source: Take) -> Manipulation:
    """The source's inner face with the target's expression, at low resolution, in a box with soft edges."""
    head = Head(_recoloured(source.identity, target.identity), target.light, target.canvas_unit)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    squircle = np.stack([_signed_root(np.cos(angle)), _signed_root(np.sin(angle))], axis=1)
    box = squircle * (0.62 * target.identity.jaw_width, 0.64) + (0, 0.15)
    region = _feathered(head, box, SWAP_FEATHER)
    return Manipulation(target, target, head, region, _limited(SWAP_TEXTURE), hard_mask=True)


def face_swap(target: Take, source: Take) -> Manipulation:
    """The source's face with the target's expression, its full texture, in the source's own light, hard edges."""
    light = Light(source.light.x, source.light.y, source.light.ambient, target.light.colour)
    head = Head(_recoloured(source.identity, target.identity), light, target.canvas_unit)
    region = _feathered(head, _face(target.identity, 0.82), FACESWAP_FEATHER)
    return Manipulation(target, target, head, region, _limited(1.0), hard_mask=False)


def _rng(target: Take, source: Take, method: int) -> np.random.Generator:
    return np.random.default_rng(
        np.random.SeedSequence(target.seed, spawn_key=(2, target.number, source.number, method))
    )


def _face(identity: Identity, shrink: float) -> lm.Points:
    """The inner face: the jaw, drawn in by `shrink`, up to a line above the brows."""
    jaw = lm.landmarks(identity, EXPRESSIONS["Neutral"])[lm.JAW] * shrink
    top = lm.BROW_Y - 0.2
    forehead = np.array([[0.85, top + 0.15], [0.5, top], [-0.5, top], [-0.85, top + 0.15]])
    return np.concatenate([jaw, forehead * (shrink * identity.jaw_width, 1)])


def _lower_face(identity: Identity) -> lm.Points:
    """An ellipse from under the nose to the chin."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    height = (0.99 - identity.nose_length) / 2
    centre = identity.nose_length + 0.01 + height
    return np.stack([0.75 * identity.jaw_width * np.cos(angle), centre + height * np.sin(angle)], axis=1)


def _feathered(head: Head, points: lm.Points, feather: float) -> Image:
    return cv2.GaussianBlur(head.fill_region(points), (0, 0), feather * head.unit)


def _limited(resolution: float) -> Callable[[Image], Image]:
    """A texture of `resolution` times the canvas's width and height, stretched back to it."""

    def texture(canvas: Image) -> Image:
        if resolution == 1:
            return canvas
        small = cv2.resize(canvas, None, fx=resolution, fy=resolution, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_LINEAR)

    return texture


def _offset(texture: Callable[[Image], Image], offset: NDArray[np.float64]) -> Callable[[Image], Image]:
    """The texture, shifted by `offset` grey levels (per channel, or per pixel and channel)."""

    def shifted(canvas: Image) -> Image:
        return np.clip(texture(canvas) + offset, 0, 255).astype(np.uint8)

    return shifted


def _checker(size: tuple[int, int], period: float) -> Plane:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    waves: Plane = np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period)
    return waves.astype(np.float32)


def _recoloured(source: Identity, target: Identity) -> Identity:
    """The source with most of the skin colour's difference to the target taken away, its lips alike."""
    gain = (np.array(target.skin) / source.skin) ** SWAP_COLOUR_MATCH
    skin, lips = np.array(source.skin) * gain, np.array(source.lips) * gain
    return replace(source, skin=tuple(skin.tolist()), lips=tuple(lips.tolist()))


def _signed_root(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(x) * np.sqrt(np.abs(x))
