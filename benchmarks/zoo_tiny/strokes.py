"""Seeded images of random Bezier strokes: the data that `zoo_tiny` is pretrained on.

Formula-driven pretraining (Kataoka et al., arXiv 2101.08515, with fractals): a class is a formula, here random control
points, and an image is one rendering of it. No file is read, and no digit is used.

- A **class** is a trajectory of at most `MAX_STROKES` cubic Bezier strokes. A stroke starts at the end of the previous
  one or elsewhere; some are arcs of an ellipse.
- An **image** jitters the control points, applies a random slant, rotation, aspect ratio, size and stroke width, and
  degradations that are typical of small real images: area averaging down to a few pixels, few grey values, noise, and
  random foreground and background colours.

Drawing is a batched matrix product: every point p of the curve adds a separable Gaussian, `canvas[y, x] = sum_p w_p *
gy[p, y] * gx[p, x]`, where `w_p` is the length of the curve at the point. This is about 1 on the centre line of a wide
enough stroke in any direction, and a soft threshold makes its edges sharp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

IMAGE_SIZE = 32
"""Height and width of an image, pixels."""

MAX_STROKES = 4
"""Maximum number of strokes of a class."""

_POINTS_PER_STROKE = 20
"""Points per stroke: at most 2 pixels apart on a stroke across the canvas."""

_LOW_SIZES = (8, 8, 8, 10, 12, 16, 24, IMAGE_SIZE)
"""Sizes in pixels that images are averaged down to and enlarged again; each entry is equally likely."""


@dataclass(frozen=True)
class StrokeClasses:
    """The formulas of N classes.

    control: `(N, MAX_STROKES, 4, 2)` float32, cubic Bezier control points (x, y), centred, extent about 1.
    present: `(N, MAX_STROKES)` float32, 1 where the class has the stroke, else 0.
    joined:  `(N, MAX_STROKES)` float32, 1 where a stroke starts at the end of the one before it.
    """

    control: Tensor
    present: Tensor
    joined: Tensor

    def __len__(self) -> int:
        return self.control.shape[0]


def _uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _arcs(generator: torch.Generator, count: int) -> Tensor:
    """`count` arcs of ellipses as cubic Beziers, `(count, 4, 2)`.

    A cubic with handles of length 4/3 tan(a/4) approximates an arc of angle a to 0.03 % of the radius for a = 90
    degrees; up to 288 degrees, the largest angle here, it is a smooth curve.
    """
    start = _uniform(generator, (count,), 0, 2 * math.pi)
    angle = (
        _uniform(generator, (count,), 0.6, 1.6)
        * math.pi
        * torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    )
    handle = 4 / 3 * torch.tan(angle / 4)
    end = start + angle
    p0 = torch.stack([start.cos(), start.sin()], -1)
    p3 = torch.stack([end.cos(), end.sin()], -1)
    p1 = p0 + handle[:, None] * torch.stack([-start.sin(), start.cos()], -1)
    p2 = p3 - handle[:, None] * torch.stack([-end.sin(), end.cos()], -1)
    radius = _uniform(generator, (count, 1, 2), 0.2, 0.5)
    centre = _uniform(generator, (count, 1, 2), -0.25, 0.25)
    return torch.stack([p0, p1, p2, p3], 1) * radius + centre


def make_classes(count: int, seed: int) -> StrokeClasses:
    """Draw the formulas of `count` classes; the same (count, seed) gives the same classes."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, MAX_STROKES)
    free = _uniform(generator, (*shape, 4, 2), -0.5, 0.5)
    # A third each: bows of random points, nearly straight lines, arcs of ellipses.
    steps = torch.linspace(0, 1, 4)[:, None]
    line = free[..., :1, :] * (1 - steps) + free[..., 3:, :] * steps
    line = line + 0.15 * (free - line)
    arc = _arcs(generator, count * MAX_STROKES).view(*shape, 4, 2)
    kind = torch.rand(shape, generator=generator)[..., None, None]
    control = torch.where(kind < 0.34, free, torch.where(kind < 0.64, line, arc))
    strokes = 1 + (torch.rand(count, generator=generator) * MAX_STROKES).long()
    present = (torch.arange(MAX_STROKES) < strokes[:, None]).float()
    joined = (torch.rand(shape, generator=generator) < 0.6).float()
    joined[:, 0] = 0
    control = _join(control, joined)
    return StrokeClasses(control, present, joined)


def _join(control: Tensor, joined: Tensor) -> Tensor:
    """Start every joined stroke where the one before it ends, by moving its first two control points."""
    control = control.clone()
    for index in range(1, MAX_STROKES):
        shift = (control[:, index - 1, 3] - control[:, index, 0]) * joined[:, index, None]
        control[:, index, 0] += shift
        control[:, index, 1] += 0.5 * shift
    return control


def _bezier_matrix(points: int) -> Tensor:
    """Bernstein polynomials of degree 3 at `points` points of [0, 1]: `(points, 4)`."""
    t = torch.linspace(0, 1, points)
    return torch.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3], -1)


_BERNSTEIN = _bezier_matrix(_POINTS_PER_STROKE)


def _trace(classes: StrokeClasses, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One handwritten trajectory for each label.

    labels: `(B,)`. Returns points `(B, P, 2)` and the length of the curve at each `(B, P)`, both in pixels.
    """
    count = len(labels)
    control = classes.control[labels]
    present = classes.present[labels]
    amount = _uniform(generator, (count, 1, 1, 1), 0.03, 0.12)
    control = control + amount * torch.randn(control.shape, generator=generator)
    control = _join(control, classes.joined[labels])
    points = torch.einsum("tk,bskd->bstd", _BERNSTEIN, control)  # (B, S, T, 2)

    angle = _uniform(generator, (count,), -0.25, 0.25)
    slant = _uniform(generator, (count,), -0.35, 0.35)
    aspect = torch.exp(_uniform(generator, (count,), -0.5, 0.3))
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack(
        [
            torch.stack([cos * aspect, cos * slant - sin], -1),
            torch.stack([sin * aspect, sin * slant + cos], -1),
        ],
        -2,
    )
    points = torch.einsum("bij,bstj->bsti", matrix, points)

    # Fit the bounding box to the canvas, with random size and position.
    missing = (present[:, :, None, None] == 0).expand_as(points)
    low = points.masked_fill(missing, math.inf).amin((1, 2))
    high = points.masked_fill(missing, -math.inf).amax((1, 2))
    extent = (high - low).amax(-1).clamp_min(0.05)
    size = _uniform(generator, (count,), 0.7, 1.0) * (IMAGE_SIZE - 2)
    margin = (IMAGE_SIZE - size)[:, None].clamp_min(2.0) * 0.5
    centre = IMAGE_SIZE / 2 - 0.5 + _uniform(generator, (count, 2), -0.6, 0.6) * margin
    points = (points - ((low + high) / 2)[:, None, None]) * (size / extent)[:, None, None, None] + centre[:, None, None]

    step = (points[:, :, 1:] - points[:, :, :-1]).norm(dim=-1)
    length = F.pad(step, (0, 1)) + F.pad(step, (1, 0))
    weight = 0.5 * length * present[:, :, None]
    return points.flatten(1, 2), weight.flatten(1, 2)


def _ink(points: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
    """Draw trajectories: `(B, P, 2)` and `(B, P)`, pixels, to ink in [0, 1], `(B, 1, 32, 32)`."""
    count = len(points)
    sigma = torch.exp(_uniform(generator, (count, 1, 1), math.log(0.9), math.log(2.2)))
    grid = torch.arange(IMAGE_SIZE, dtype=torch.float32)
    blot_x = torch.exp(-0.5 * ((grid - points[..., :1]) / sigma) ** 2)  # (B, P, 32)
    blot_y = torch.exp(-0.5 * ((grid - points[..., 1:]) / sigma) ** 2)
    blot_y = blot_y * (weight[..., None] / (sigma * math.sqrt(2 * math.pi)))
    line = blot_y.transpose(1, 2) @ blot_x
    threshold = _uniform(generator, (count, 1, 1), 0.3, 0.6)
    sharpness = _uniform(generator, (count, 1, 1), 3.0, 8.0)
    return torch.sigmoid(sharpness * (line - threshold) * 2).sub_(0.02).clamp_(0, 1)[:, None]


def _degrade(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Average images `(B, 1, 32, 32)` down to a size drawn for each eighth of the batch, then enlarge them."""
    parts = []
    for part in ink.chunk(8):
        size = _LOW_SIZES[int(torch.randint(len(_LOW_SIZES), (1,), generator=generator))]
        if size == IMAGE_SIZE:
            parts.append(part)
            continue
        small = F.interpolate(part, size=(size, size), mode="area")
        if torch.rand((), generator=generator) < 0.5:
            small = (small * 16).round_().div_(16)
        mode = "bilinear" if torch.rand((), generator=generator) < 0.5 else "bicubic"
        parts.append(F.interpolate(small, size=(IMAGE_SIZE, IMAGE_SIZE), mode=mode, align_corners=False))
    return torch.cat(parts)


def _paint(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Colour ink `(B, 1, 32, 32)` into RGB `(B, 3, 32, 32)` in [0, 1]: 3/4 grey, 1/4 any colours, both polarities."""
    count = len(ink)
    fore = torch.rand((count, 3, 1, 1), generator=generator)
    back = torch.rand((count, 3, 1, 1), generator=generator)
    grey = (torch.rand((count, 1, 1, 1), generator=generator) < 0.75).float()
    fore = grey * _uniform(generator, (count, 1, 1, 1), 0.6, 1.0) + (1 - grey) * fore
    back = grey * _uniform(generator, (count, 1, 1, 1), 0.0, 0.25) + (1 - grey) * back
    # If the two colours are too similar, increase their difference.
    near = (fore - back).abs().amax(1, keepdim=True) < 0.3
    fore = torch.where(near, (back + 0.5) % 1.0, fore)
    swap = torch.rand((count, 1, 1, 1), generator=generator) < 0.35
    fore, back = torch.where(swap, back, fore), torch.where(swap, fore, back)
    image = back + (fore - back) * ink
    noise = _uniform(generator, (count, 1, 1, 1), 0.0, 0.06)
    return (image + noise * torch.randn(image.shape, generator=generator)).clamp_(0, 1)


def render(classes: StrokeClasses, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one new image for each label.

    labels: `(B,)` int64 in [0, len(classes)). generator: source of all randomness; it advances.
    Returns `(B, 3, 32, 32)` float32 RGB in [0, 1].
    """
    points, weight = _trace(classes, labels, generator)
    return _paint(_degrade(_ink(points, weight, generator), generator), generator)
