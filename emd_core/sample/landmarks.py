"""The 68 facial landmarks (iBUG 300-W order) of an identity that shows an expression.

Head units: the origin lies between eyes and nose tip, x grows to the right and y downwards in the image, the chin
of a neutral face is at y = 1 and the top of the skull at y = -1.05.
"""

import numpy as np
from numpy.typing import NDArray

from emd_core.sample.expression import Expression
from emd_core.sample.identity import Identity

Points = NDArray[np.float64]  # (N, 2): x, y

JAW = slice(0, 17)
BROWS = (slice(17, 22), slice(22, 27))
EYES = (slice(36, 42), slice(42, 48))
NOSE_BASE = slice(31, 36)
OUTER_LIPS = slice(48, 60)
INNER_LIPS = slice(60, 68)

EYE_Y, BROW_Y, JAW_TOP = -0.17, -0.38, -0.10


def landmarks(identity: Identity, expression: Expression) -> Points:
    """(68, 2) points in head units."""
    brow, eye = _brow(identity, expression), _eye(identity, expression)
    mirror = np.array([-1.0, 1.0])
    other_eye = (eye * mirror)[[3, 2, 1, 0, 5, 4]]
    return np.concatenate(
        [_jaw(identity, expression), brow, (brow * mirror)[::-1], _nose(identity, expression), eye, other_eye]
        + [_mouth(identity, expression)]
    )


def _jaw(identity: Identity, expression: Expression) -> Points:
    theta = np.linspace(-np.pi / 2, np.pi / 2, 17)
    chin = 1.0 + 0.07 * expression.mouth_open
    x = identity.jaw_width * np.sign(theta) * np.abs(np.sin(theta)) ** identity.jaw_square
    return np.stack([x, JAW_TOP + (chin - JAW_TOP) * np.cos(theta) ** 0.9], axis=1)


def _brow(identity: Identity, expression: Expression) -> Points:
    """The brow at the image's left, from its outer to its inner end."""
    along = np.linspace(0, 1, 5)
    inner = 0.13 + 0.03 * min(expression.brow_slant, 0)
    x = -(identity.eye_spacing + 0.20) * (1 - along) - inner * along
    slant = expression.brow_slant * (0.04 * (1 - along) - 0.13 * along**1.5)
    y = BROW_Y - 0.13 * expression.brow_height + slant - identity.brow_arch * np.sin(np.pi * along)
    return np.stack([x, y], axis=1)


def _eye(identity: Identity, expression: Expression) -> Points:
    """The eye at the image's left: outer corner, two upper points, inner corner, two lower points."""
    half = identity.eye_height * max(1 + expression.eye_open, 0.06)
    x = np.array([-1, -0.4, 0.4, 1, 0.4, -0.4]) * identity.eye_width - identity.eye_spacing
    y = EYE_Y + half * np.array([0, -1.25, -1.15, 0.15, 0.85, 0.8])
    return np.stack([x, y + identity.eye_tilt * np.array([-1, -0.4, 0.4, 1, 0.4, -0.4])], axis=1)


def _nose(identity: Identity, expression: Expression) -> Points:
    tip = identity.nose_length - 0.04 * expression.nose_wrinkle
    bridge = np.stack([np.zeros(4), np.linspace(-0.2, tip - 0.08, 4)], axis=1)
    x = identity.nose_width * np.linspace(-1, 1, 5)
    return np.concatenate([bridge, np.stack([x, tip + 0.03 * np.array([-1, 0.2, 1, 0.2, -1])], axis=1)])


def _mouth(identity: Identity, expression: Expression) -> Points:
    """Outer lips from the image's left corner over the upper lip, then inner lips the same way."""
    half = identity.mouth_width * (1 + 0.3 * expression.mouth_width)
    gap = 0.22 * expression.mouth_open
    thick = identity.lip_thickness
    middle = identity.mouth_y - 0.03 * expression.nose_wrinkle

    def y(f: NDArray[np.float64], lift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height at f in [-1, 1] across the mouth; corners follow the smile, the right one the smirk too."""
        corners = -0.11 * expression.mouth_corners * f**2 - 0.12 * expression.asymmetry * np.maximum(f, 0) ** 2
        return middle + corners + lift

    upper, lower = np.array([-0.62, -0.25, 0, 0.25, 0.62]), np.array([0.62, 0.3, 0, -0.3, -0.62])
    ends = np.array([-1.0, 1.0])
    arc_up, arc_down = 1 - upper**2, 1 - lower**2
    raise_up = -0.2 * gap * arc_up - 0.03 * expression.nose_wrinkle * arc_up
    bow = np.array([0.65, 1.1, 0.9, 1.1, 0.65])
    y_up, y_down = y(upper, raise_up - thick * bow), y(lower, gap * arc_down + thick * 1.35 * arc_down)
    inner_up, inner_down = np.array([-0.4, 0, 0.4]), np.array([0.4, 0, -0.4])
    y_in_up = y(inner_up, -0.2 * gap * (1 - inner_up**2) - 0.03 * expression.nose_wrinkle)
    y_in_down = y(inner_down, gap * (1 - inner_down**2))
    y_ends, y_in_ends = y(ends, np.zeros(2)), y(ends * 0.88, np.zeros(2))
    f = np.concatenate([[-1.0], upper, [1.0], lower, [-0.88], inner_up, [0.88], inner_down])
    ys = [y_ends[:1], y_up, y_ends[1:], y_down, y_in_ends[:1], y_in_up, y_in_ends[1:], y_in_down]
    return np.stack([half * f, np.concatenate(ys)], axis=1)
