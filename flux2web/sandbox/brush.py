"""Strokes that Pillow lacks: soft gradients, clean edges, light and shadow. Points are pixels of the canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]

SMOOTH = 2  # masks are painted this many times larger and shrunk: Pillow's own edges are jagged


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` at 0, `b` at 1."""
    share = min(1.0, max(0.0, share))
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def ramp(colours: Sequence[Colour], at: float) -> Colour:
    """The colour at 0..1 along a row of colours."""
    place = min(0.9999, max(0.0, at)) * (len(colours) - 1)
    return mix(colours[int(place)], colours[int(place) + 1], place % 1)


def light(colour: Colour) -> float:
    """Perceived brightness, 0..1 (Rec. 601 weights)."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


def gradient(size: Size, *colours: Colour) -> Image.Image:
    """From the first colour at the top to the last at the bottom."""
    column = Image.new("RGB", (1, 256))
    column.putdata([ramp(colours, row / 255) for row in range(256)])
    return column.resize(size, Image.Resampling.BICUBIC)


def wave(rng: Random, octaves: int = 4, roughness: float = 0.5) -> Callable[[float], float]:
    """A smooth random curve over 0..1, about -1..1 high."""
    parts = [(roughness**k, (1.1 + rng.random()) * 2**k, rng.random() * math.tau) for k in range(octaves)]
    total = sum(height for height, _, _ in parts)
    return lambda x: sum(h * math.sin(x * f * math.pi + p) for h, f, p in parts) / total


def arc(start: float, end: float, count: int = 60) -> list[float]:
    return [start + (end - start) * i / (count - 1) for i in range(count)]


def smoothed(profile: list[Point], steps: int = 8) -> list[Point]:
    """Catmull-Rom through the points."""
    padded, curve = [profile[0], *profile, profile[-1]], []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for i in range(steps):
            t = i / steps
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            curve.append(
                tuple(sum(k * p[axis] for k, p in zip(weights, (a, b, c, d), strict=True)) / 2 for axis in (0, 1))
            )
    return [*curve, profile[-1]]  # type: ignore[list-item]


def bezier(a: Point, b: Point, c: Point, t: float) -> Point:
    return tuple((1 - t) ** 2 * a[i] + 2 * t * (1 - t) * b[i] + t * t * c[i] for i in (0, 1))  # type: ignore[return-value]


def stencil(size: Size, paint: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
    """A mask with clean edges; `paint` gets a pen and the factor to multiply its points with."""
    large = Image.new("L", (size[0] * SMOOTH, size[1] * SMOOTH))
    paint(ImageDraw.Draw(large), SMOOTH)
    return large.reduce(SMOOTH)


def scaled(points: Iterable[Point], factor: float) -> list[Point]:
    return [(x * factor, y * factor) for x, y in points]


def polygon(size: Size, points: Sequence[Point]) -> Image.Image:
    return stencil(size, lambda pen, k: pen.polygon(scaled(points, k), fill=255))


def ellipse(size: Size, centre: Point, rx: float, ry: float) -> Image.Image:
    box = (centre[0] - rx, centre[1] - ry, centre[0] + rx, centre[1] + ry)
    return stencil(size, lambda pen, k: pen.ellipse([v * k for v in box], fill=255))


def faded(mask: Image.Image, strength: float) -> Image.Image:
    return mask.point(lambda v: int(v * strength))


def blurred(mask: Image.Image, radius_px: float) -> Image.Image:
    """A soft copy. Blurred small and enlarged: it does not show, and costs a sixteenth."""
    if radius_px < 8:
        return mask.filter(ImageFilter.GaussianBlur(radius_px))
    small = mask.reduce(4).filter(ImageFilter.GaussianBlur(radius_px / 4))
    return small.resize(mask.size, Image.Resampling.BICUBIC)


def shade(canvas: Image.Image, mask: Image.Image, *, by: Point, radius_px: float, strength: float, ink: Colour) -> None:
    """The soft shadow that a shape of this mask throws, moved `by` pixels."""
    shadow = ImageChops.offset(mask, round(by[0]), round(by[1]))
    canvas.paste(ink, (0, 0), faded(blurred(shadow, radius_px), strength))


EDGE = 181  # what Pillow's radial gradient reaches at the middle of a side; 255 is reached in the corners


def _falloff(power: float) -> Image.Image:
    """A round light, white in the middle, nothing at the edge."""
    return Image.radial_gradient("L").point(lambda v: int(255 * (max(0, EDGE - 2 - v) / EDGE) ** power))


def glow(canvas: Image.Image, centre: Point, radius_px: float, colour: Colour, strength: float = 1.0) -> None:
    side = max(2, round(radius_px * 2))
    mask = faded(_falloff(1.8), strength).resize((side, side), Image.Resampling.BICUBIC)
    canvas.paste(colour, (round(centre[0] - radius_px), round(centre[1] - radius_px)), mask)


def ball(canvas: Image.Image, centre: Point, radius_px: float, colour: Colour, *, lit: Colour, dark: Colour) -> None:
    """A shaded sphere, lit from the upper left."""
    side = max(4, round(radius_px * 2))
    wide = Image.radial_gradient("L").resize((round(side * 1.45),) * 2, Image.Resampling.BICUBIC)
    left = round(side * (1.45 / 2 - 0.36))
    depth = wide.crop((left, left, left + side, left + side)).point(lambda v: min(255, int(v * 255 / EDGE)))
    skin = _painted(depth, [mix(colour, lit, 0.75), mix(colour, lit, 0.25), colour, mix(colour, dark, 0.45), dark])
    glow(skin, (side * 0.72, side * 0.8), side * 0.32, mix(colour, lit, 0.35), 0.35)
    mask = ellipse((side, side), (side / 2, side / 2), side / 2 - 0.5, side / 2 - 0.5)
    canvas.paste(skin, (round(centre[0] - side / 2), round(centre[1] - side / 2)), mask)


def _painted(depth: Image.Image, colours: Sequence[Colour]) -> Image.Image:
    """Grey depth turned into a row of colours."""
    bands = [depth.point([ramp(colours, v / 255)[band] for v in range(256)]) for band in range(3)]
    return Image.merge("RGB", bands)


def grain(canvas: Image.Image, rng: Random, strength: float = 9.0) -> Image.Image:
    """Fine noise over everything: hides the bands of a gradient and the softness of an enlargement."""
    width, height = canvas.size
    tile = Image.new("L", (256, 256))
    tile.putdata([min(255, max(0, round(rng.gauss(128, strength)))) for _ in range(256 * 256)])
    sheet = Image.new("L", canvas.size)
    for left in range(0, width, 256):
        for top in range(0, height, 256):
            sheet.paste(tile.transpose(rng.choice(_TURNS)), (left, top))
    return ImageChops.overlay(canvas, Image.merge("RGB", (sheet,) * 3))


_TURNS = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_270,
)


def vignette(canvas: Image.Image, strength: float = 0.28) -> None:
    """Darker corners, so that the eye stays inside."""
    edge = Image.radial_gradient("L").crop((28, 28, 228, 228)).point(lambda v: int(max(0, v - 120) * strength * 1.9))
    canvas.paste((12, 10, 20), (0, 0), edge.resize(canvas.size, Image.Resampling.BICUBIC))
