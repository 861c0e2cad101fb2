"""A person filmed once: background, body, moving head, light and camera."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.sample.expression import FPS, expression_path
from emd_core.sample.head import LEFT, TOP, Head, Image
from emd_core.sample.identity import random_identity
from emd_core.sample.landmarks import Points
from emd_core.sample.light import random_light

FACE_UNIT = 0.25  # head unit as a share of the frame's height: a face is then about 0.45 of it
OVERSAMPLING = 1.6  # canvas pixels per frame pixel
NOISE = (2.0, 4.0)  # standard deviation of the sensor's white noise, grey levels, one value per video
GRAIN = (9.0, 12.0)  # of its correlated part, which outlives a resize and H.264 at crf 23
GRAIN_SIGMA = 1.2  # pixels
LENS_SIGMA = 0.5  # pixels


class Pose(NamedTuple):
    """Where the head is in a frame."""

    x: float  # of the head's origin, pixels
    y: float
    unit: float  # pixels per head unit
    angle: float  # in the image plane, radians
    yaw: float  # how far the middle of the face shifts against its outline, head units
    pitch: float

    def place(self, points: Points) -> Points:
        """Head units to pixels of the frame (the inverse of `view`, to first order in yaw and pitch)."""
        turned = points + _depth(points[:, 0], points[:, 1])[:, None] * (self.yaw, self.pitch)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        placed: Points = turned @ np.array([[cos, sin], [-sin, cos]]) * self.unit + (self.x, self.y)
        return placed


@dataclass(frozen=True)
class View:
    """The pixels of the canvas that each pixel of a frame shows."""

    map_x: NDArray[np.float32]
    map_y: NDArray[np.float32]

    def project(self, canvas: Image) -> Image:
        """Bring a canvas into the frame; 0 where the canvas ends."""
        return cv2.remap(canvas, self.map_x, self.map_y, cv2.INTER_LINEAR, borderValue=0)


def view(pose: Pose, unit: int, width: int, height: int) -> View:
    """How a frame of `width` x `height` sees a canvas of `unit` pixels per head unit."""
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    cos, sin = math.cos(pose.angle) / pose.unit, math.sin(pose.angle) / pose.unit
    x = (u - pose.x) * cos + (v - pose.y) * sin
    y = (v - pose.y) * cos - (u - pose.x) * sin
    # Parallax: what is near the viewer moves most when the head turns; the outline stays.
    depth = _depth(x, y)
    map_x = (x - pose.yaw * depth + LEFT) * unit
    map_y = (y - pose.pitch * depth + TOP) * unit
    return View(map_x, map_y)


def _depth(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    """How near the viewer the face is at (x, y), in [0, 1]."""
    depth: NDArray[np.floating] = np.sqrt(np.maximum(1 - (x / 0.85) ** 2 - (y / 1.1) ** 2, 0))
    return depth


class Take:
    """Video `number`: a pure function of (seed, number); frame t depends on no other frame having been drawn."""

    def __init__(self, seed: int, number: int, frames: int, width: int, height: int) -> None:
        self.seed, self.number, self.width, self.height = seed, number, width, height
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, number)))
        self.identity = random_identity(rng)
        self.light = random_light(rng)
        self.expressions = expression_path(rng, frames)
        self.poses = _pose_path(rng, frames, width, height)
        self.canvas_unit = round(OVERSAMPLING * FACE_UNIT * height)
        self.head = Head(self.identity, self.light, self.canvas_unit)
        self._background = random_background(rng, round(1.2 * width), height)
        self._pan = 0.1 * width * (1 + wander(rng, frames, 0.8))
        self._shirt = rng.uniform(20, 220, 3)
        self.view = lru_cache(maxsize=1)(self._view)  # frame t and its manipulations are drawn one after the other
        self.noise, self.grain = rng.uniform(*NOISE), rng.uniform(*GRAIN)

    def _view(self, t: int) -> View:
        return view(self.poses[t], self.canvas_unit, self.width, self.height)

    def frame(self, t: int) -> Image:
        """Frame t as the camera saw it, before any compression (HWC uint8 RGB)."""
        shift = np.array([[1, 0, -self._pan[t]], [0, 1, 0]], dtype=np.float64)
        scene = cv2.warpAffine(self._background, shift, (self.width, self.height), borderMode=cv2.BORDER_REFLECT)
        _draw_body(scene, self.poses[t], tuple(self._shirt.tolist()))
        canvas, alpha = self.head.draw(self.expressions[t])
        at = self.view(t)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1, self.number, t)))
        return photograph(over(scene, at.project(canvas), at.project(alpha)), self.noise, self.grain, rng)


def over(below: Image, above: Image, alpha: Image) -> Image:
    """Lay `above` over `below`; alpha is HW, 255 = opaque."""
    share = alpha[..., None] * np.float32(1 / 255)
    mixed: Image = np.rint(below + (above - below.astype(np.float32)) * share).astype(np.uint8)
    return mixed


def photograph(scene: Image, noise: float, grain: float, rng: np.random.Generator) -> Image:
    """What a camera makes of a scene: a soft lens, white noise and correlated grain (standard deviations)."""
    soft = cv2.GaussianBlur(scene, (0, 0), LENS_SIGMA).astype(np.float32)
    white = rng.standard_normal(scene.shape, dtype=np.float32)
    clumped = cv2.GaussianBlur(rng.standard_normal(scene.shape[:2], dtype=np.float32), (0, 0), GRAIN_SIGMA)
    soft += noise * white
    soft += (grain * 2 * math.sqrt(math.pi) * GRAIN_SIGMA) * clumped[
        ..., None
    ]  # a blur divides noise by 2 sqrt(pi) sigma
    return np.clip(np.rint(soft), 0, 255).astype(np.uint8)


def wander(rng: np.random.Generator, frames: int, amplitude: float) -> NDArray[np.float64]:
    """A smooth random curve within [-amplitude, amplitude]: three sines of 1.5 to 6 seconds."""
    t = np.arange(frames)[:, None] / FPS
    waves = np.sin(2 * np.pi * (t / rng.uniform(1.5, 6, 3) + rng.uniform(0, 1, 3)))
    curve: NDArray[np.float64] = amplitude * waves @ rng.dirichlet((1, 1, 1))
    return curve


def random_background(rng: np.random.Generator, width: int, height: int) -> Image:
    """A wall with a gradient, furniture-like shapes and plaster (HWC uint8 RGB)."""
    corners = rng.uniform(40, 210) + rng.normal(0, 25, (2, 2, 3))
    wall = cv2.resize(corners.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(4, 9)):
        colour = tuple(rng.uniform(20, 235, 3).tolist())
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        extent = rng.integers(height // 16, height // 3, 2)
        if rng.random() < 0.6:
            corner = (centre[0] + int(extent[0]), centre[1] + int(extent[1]))
            cv2.rectangle(wall, centre, corner, colour, -1, cv2.LINE_AA)
        else:
            cv2.circle(wall, centre, int(extent[0]) // 2, colour, -1, cv2.LINE_AA)
    wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(0.8, 3.0))
    plaster = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), 1.5)
    wall += 4 * plaster[..., None] / plaster.std()
    return np.clip(wall, 0, 255).astype(np.uint8)


def _pose_path(rng: np.random.Generator, frames: int, width: int, height: int) -> list[Pose]:
    unit = FACE_UNIT * height * rng.uniform(0.9, 1.08)
    x = width * (rng.uniform(0.42, 0.58) + wander(rng, frames, 0.05))
    y = height * (rng.uniform(0.48, 0.54) + wander(rng, frames, 0.03))
    path = (x, y, unit * (1 + wander(rng, frames, 0.05)), wander(rng, frames, 0.12))
    turns = (rng.uniform(-0.06, 0.06) + wander(rng, frames, 0.1), wander(rng, frames, 0.06))
    return [Pose(*row) for row in np.stack([*path, *turns], axis=1).tolist()]


def _draw_body(scene: Image, pose: Pose, shirt: tuple[float, ...]) -> None:
    centre = (round(pose.x), round(pose.y + 2.25 * pose.unit))
    axes = (round(1.6 * pose.unit), round(1.05 * pose.unit))
    cv2.ellipse(scene, centre, axes, 0, 0, 360, shirt, -1, cv2.LINE_AA)
