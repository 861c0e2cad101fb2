"""Draw a head, seen from the front, on a canvas that scene.py then bends, turns and shrinks into a frame."""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from emd_core.sample import landmarks as lm
from emd_core.sample.expression import Expression
from emd_core.sample.identity import Colour, Identity
from emd_core.sample.light import Light, shading

Image = MatLike  # uint8, HWC RGB or HW, [0, 255]
Plane = MatLike  # float32, HW

LEFT, TOP, RIGHT, BOTTOM = 1.25, 1.45, 1.25, 1.55  # how far the canvas reaches from the origin, head units
BROW_CREASE = -0.36  # y of the frown's crease, head units
SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel


class Head:
    """One identity under one light, ready to be drawn with any expression; `unit` is pixels per head unit."""

    def __init__(self, identity: Identity, light: Light, unit: int) -> None:
        self.identity, self.unit = identity, unit
        self.size = (round((LEFT + RIGHT) * unit), round((TOP + BOTTOM) * unit))  # width, height
        x, y = np.meshgrid(np.arange(self.size[0]) / unit - LEFT, np.arange(self.size[1]) / unit - TOP)
        self._rng = np.random.default_rng(identity.texture_seed)
        self.shading = shading(identity, light, x, y, unit)
        grain = self._skin_texture()
        self._gain = self.shading[..., None] * grain[..., None] * np.array(light.colour, dtype=np.float32)
        self._behind, self._behind_alpha, self._hair = self._draw_static()
        self._bare_skin = np.full_like(self._behind, identity.skin)
        self._beard = self._beard_opacity(x, y)

    def draw(self, expression: Expression, *, face_only: bool = False) -> tuple[Image, Image]:
        """The canvas (HWC RGB) and its opacity (HW, 255 = opaque).

        With `face_only` skin goes on beyond the head's outline and nothing is transparent: what a method that
        renders the face alone has at hand.
        """
        points = lm.landmarks(self.identity, expression)
        if face_only:
            canvas, alpha = self._bare_skin.copy(), np.full_like(self._behind_alpha, 255)
        else:
            canvas, alpha = self._behind.copy(), self._behind_alpha.copy()
            outline = np.concatenate([points[lm.JAW], _skull(self.identity)])
            self._fill(canvas, outline, self.identity.skin)
            self._fill(alpha, outline, 255)
        if self.identity.beard:
            dark = np.array(self.identity.hair, dtype=np.float32) * 0.8
            canvas = (canvas + (dark - canvas) * self._beard[..., None]).astype(np.uint8)
        self._draw_folds(canvas, points, expression)
        self._draw_nose(canvas, points)
        for eye in lm.EYES:
            self._draw_eye(canvas, points[eye])
        for brow in lm.BROWS:
            self._draw_brow(canvas, points[brow])
        self._draw_mouth(canvas, points)
        if not face_only:
            cv2.copyTo(self._behind, self._hair, canvas)
        lit = cv2.multiply(canvas, self._gain, dtype=cv2.CV_8U)
        return lit, alpha

    def fill_region(self, points: lm.Points) -> Image:
        """A canvas-sized plane, 255 inside the polygon `points` (head units) and 0 outside."""
        plane = np.zeros((self.size[1], self.size[0]), dtype=np.uint8)
        self._fill(plane, points, 255)
        return plane

    def _pixels(self, points: lm.Points) -> NDArray[np.int32]:
        pixels: NDArray[np.int32] = np.rint((points + (LEFT, TOP)) * self.unit * 2**SUBPIXEL_BITS).astype(np.int32)
        return pixels

    def _fill(self, image: Image, points: lm.Points, colour: Colour | int) -> None:
        cv2.fillPoly(image, [self._pixels(points)], colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def _line(self, image: Image, points: lm.Points, colour: Colour, width: float) -> None:
        pixels = max(round(width * self.unit), 1)
        cv2.polylines(image, [self._pixels(points)], False, colour, pixels, cv2.LINE_AA, SUBPIXEL_BITS)

    def _skin_texture(self) -> Plane:
        """Multiplicative: pores, blotches and freckles that move with the skin."""
        shape, spot = self.size[::-1], 0.014 * self.unit
        pores = cv2.GaussianBlur(self._rng.standard_normal(shape, dtype=np.float32), (0, 0), 0.012 * self.unit)
        blotches = cv2.GaussianBlur(self._rng.standard_normal(shape, dtype=np.float32), (0, 0), 0.06 * self.unit)
        spots = cv2.GaussianBlur((self._rng.random(shape) > 0.9965).astype(np.float32), (0, 0), spot)
        texture: Plane = 1 + 0.045 * pores / pores.std() + 0.025 * blotches / blotches.std()
        peak = 1 / (2 * np.pi * spot**2)  # of a lone spot
        return texture - 2 * self.identity.freckles / peak * spots

    def _draw_static(self) -> tuple[Image, Image, Image]:
        """What no expression moves: canvas with hair, ears and neck; its opacity; where hair covers the skin."""
        who = self.identity
        shape = (self.size[1], self.size[0])
        canvas, alpha = np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
        strands = cv2.GaussianBlur(self._rng.standard_normal(shape, dtype=np.float32), (0, 0), 0.6, sigmaY=8)
        hair_texture = np.array(who.hair) * (1 + 0.22 * strands / strands.std())[..., None]
        back, front = self._hair_shapes()
        self._fill(alpha, back, 255)
        canvas[alpha > 0] = np.clip(hair_texture, 0, 255).astype(np.uint8)[alpha > 0]
        dim = tuple(0.8 * c for c in who.skin)
        neck_width = 0.62 * who.jaw_width
        neck = np.array([[-neck_width, 0.3], [neck_width, 0.3], [neck_width * 1.1, 1.35], [0, 1.5]])
        neck = np.concatenate([neck, [[-neck_width * 1.1, 1.35]]])
        self._fill(canvas, neck, (dim[0], dim[1], dim[2]))
        self._fill(alpha, neck, 255)
        for side in (-1, 1):
            ear = _ellipse((side * (who.jaw_width + 0.03), -0.05), 0.09, 0.2)
            self._fill(canvas, ear, tuple(0.9 * c for c in who.skin))  # type: ignore[arg-type]
            self._fill(alpha, ear, 255)
        hair = self.fill_region(front) if who.hair_length > -1 else np.zeros(shape, dtype=np.uint8)
        canvas[hair > 0] = np.clip(hair_texture, 0, 255).astype(np.uint8)[hair > 0]
        return canvas, cv2.max(alpha, hair), hair

    def _hair_shapes(self) -> tuple[lm.Points, lm.Points]:
        """Outlines of the hair behind the head and of the hair in front of the forehead."""
        who = self.identity
        if who.hair_length <= -1:
            return np.zeros((3, 2)), np.zeros((3, 2))
        width = who.jaw_width + 0.12
        arc = np.linspace(np.pi, 2 * np.pi, 24)
        dome = np.stack([width * np.cos(arc), -0.1 + 1.12 * np.sin(arc)], axis=1)
        down = who.hair_length
        back = np.concatenate([dome, [[width + 0.03, down], [-width - 0.03, down]]])
        line = -0.98 + who.fringe  # hairline
        inner = np.array([[0.95, -0.35], [0.8, -0.62], [0.4, line + 0.02], [-0.1, line], [-0.6, line + 0.06]])
        inner = np.concatenate([inner, [[-0.86, -0.6], [-0.95, -0.35]]]) * (who.jaw_width, 1)
        return back, np.concatenate([dome, inner])

    def _beard_opacity(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Plane:
        who = self.identity
        chin = 1 / (1 + np.exp(-(y + 0.35 * (np.abs(x) / who.jaw_width) ** 2 - 0.55) / 0.05))
        around_mouth = np.exp(-(((x / 0.30) ** 2 + ((y - who.mouth_y) / 0.10) ** 2) ** 2))
        moustache = np.exp(-(((x / 0.26) ** 2 + ((y - who.mouth_y + 0.12) / 0.06) ** 2) ** 2))
        stubble = 0.75 + 0.25 * self._rng.standard_normal(x.shape)
        opacity: Plane = np.clip(np.maximum(chin * (1 - around_mouth), moustache) * stubble, 0, 1) * who.beard
        return cv2.GaussianBlur(opacity.astype(np.float32), (0, 0), 0.8)

    def _draw_folds(self, canvas: Image, points: lm.Points, expression: Expression) -> None:
        """Skin folds: from nose to mouth with a smile or disgust, between the brows with a frown."""
        depth = max(expression.mouth_corners, expression.nose_wrinkle, expression.asymmetry, 0.0)
        for side, corner in ((-1, points[48]), (1, points[54])):
            start = np.array([side * (self.identity.nose_width + 0.05), self.identity.nose_length - 0.02])
            fold = np.array([start, (start + corner) / 2 + (side * 0.07, 0), corner + (side * 0.07, 0.02)])
            self._line(canvas, _curve(fold), self._shade(1 - 0.16 * min(depth, 1) - 0.03), 0.02)
            frown = max(-expression.brow_slant, expression.nose_wrinkle, 0.0)
            crease = np.array([[side * 0.05, BROW_CREASE], [side * 0.045, BROW_CREASE + 0.14]])
            self._line(canvas, crease, self._shade(1 - 0.18 * min(frown, 1)), 0.02)

    def _draw_nose(self, canvas: Image, points: lm.Points) -> None:
        base = points[lm.NOSE_BASE]
        self._line(canvas, _curve(base), self._shade(0.74), 0.03)
        for x, y in (base[1], base[3]):
            self._fill(canvas, _ellipse((x, y - 0.01), 0.035, 0.018), self._shade(0.38))

    def _draw_eye(self, canvas: Image, eye: lm.Points) -> None:
        outline = _smooth(eye)
        opening = self.fill_region(outline)
        ball = canvas.copy()
        self._fill(ball, outline, (226, 222, 218))
        middle = (eye[0] + eye[3]) / 2 - (0, 0.008)
        radius = 0.078
        self._fill(ball, _ellipse(middle, radius, radius), tuple(0.6 * c for c in self.identity.iris))  # type: ignore[arg-type]
        self._fill(ball, _ellipse(middle, 0.85 * radius, 0.85 * radius), self.identity.iris)
        self._fill(ball, _ellipse(middle, 0.4 * radius, 0.4 * radius), (12, 10, 10))
        self._fill(ball, _ellipse(middle - (0.025, 0.03), 0.016, 0.016), (250, 250, 250))
        cv2.copyTo(ball, opening, canvas)
        lid = np.concatenate([eye[[0]], eye[[1, 2]], eye[[3]]])
        self._line(canvas, _curve(lid), self._shade(0.25), 0.025)
        self._line(canvas, _curve(lid - (0, 0.05)), self._shade(0.8), 0.02)
        self._line(canvas, _curve(eye[[3, 4, 5, 0]]), self._shade(0.72), 0.015)

    def _draw_brow(self, canvas: Image, brow: lm.Points) -> None:
        along = np.linspace(0, 1, len(brow))[:, None]
        half = self.identity.brow_thickness * np.sqrt(np.abs(np.sin(np.pi * (0.12 + 0.76 * along)))) * (0, 0.7)
        dark = tuple(0.7 * c for c in self.identity.hair)
        self._fill(canvas, _smooth(np.concatenate([brow - half, (brow + half)[::-1]])), dark)  # type: ignore[arg-type]

    def _draw_mouth(self, canvas: Image, points: lm.Points) -> None:
        outer, inner = points[lm.OUTER_LIPS], points[lm.INNER_LIPS]
        lips = self.identity.lips
        self._fill(canvas, _smooth(outer), lips)
        opening = self.fill_region(_smooth(inner))
        inside = canvas.copy()
        self._fill(inside, _smooth(inner), (62, 20, 22))
        teeth = np.concatenate([inner[:5], (inner[:5] + (0, 0.075))[::-1]])
        self._fill(inside, teeth, (222, 216, 204))
        cv2.copyTo(inside, opening, canvas)
        self._line(canvas, _curve(inner[:5]), tuple(0.55 * c for c in lips), 0.015)  # type: ignore[arg-type]
        chin_shadow = outer[[9]] + np.array([[-0.12, 0.07], [0, 0.085], [0.12, 0.07]])
        self._line(canvas, _curve(chin_shadow), self._shade(0.84), 0.03)

    def _shade(self, share: float) -> Colour:
        r, g, b = self.identity.skin
        return r * share, g * share * (0.96 if share < 0.95 else 1), b * share * (0.95 if share < 0.95 else 1)


def _skull(identity: Identity) -> lm.Points:
    """The outline above the jaw, from the right temple to the left one."""
    arc = np.linspace(0, np.pi, 24)[1:-1]
    height = 1.05 + lm.JAW_TOP
    return np.stack([identity.jaw_width * np.cos(arc), lm.JAW_TOP - height * np.sin(arc)], axis=1)


def _ellipse(centre: tuple[float, float] | lm.Points, rx: float, ry: float) -> lm.Points:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([centre[0] + rx * np.cos(angle), centre[1] + ry * np.sin(angle)], axis=1)


def _smooth(polygon: lm.Points) -> lm.Points:
    """Chaikin's corner cutting, twice, on a closed polygon."""
    for _ in range(2):
        following = np.roll(polygon, -1, axis=0)
        polygon = np.stack([0.75 * polygon + 0.25 * following, 0.25 * polygon + 0.75 * following], 1).reshape(-1, 2)
    return polygon


def _curve(line: lm.Points) -> lm.Points:
    """Chaikin's corner cutting, twice, on an open line; its ends stay."""
    for _ in range(2):
        cut = np.stack([0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], axis=1)
        line = np.concatenate([line[:1], cut.reshape(-1, 2), line[-1:]])
    return line
