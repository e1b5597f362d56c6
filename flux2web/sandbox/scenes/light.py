"""What several scenes share: sun, stars and a disc behind the subject."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageDraw

from ..brush import Point, ellipse, glow, gradient, mix
from ..palettes import Palette


def hang_sun(canvas: Image.Image, palette: Palette, rng: Random, height: float) -> Point:
    w, h = canvas.size
    centre = (w * rng.choice((rng.uniform(0.2, 0.4), rng.uniform(0.6, 0.8))), h * (height + rng.uniform(-0.06, 0.06)))
    radius = min(w, h) * rng.uniform(0.06, 0.085)
    if palette.is_dark:
        stars(canvas, rng)
    glow(canvas, centre, radius * 7, palette.sun, 0.45)
    glow(canvas, centre, radius * 2.6, palette.sun, 0.6)
    canvas.paste(palette.sun, (0, 0), ellipse(canvas.size, centre, radius, radius))
    return centre


def stars(canvas: Image.Image, rng: Random) -> None:
    w, h = canvas.size
    pen = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(140):
        x, y, r = rng.random() * w, rng.random() ** 1.5 * h * 0.55, min(w, h) * rng.uniform(0.0006, 0.0018)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 235, rng.randint(60, 210)))


def disc(canvas: Image.Image, palette: Palette, centre: Point, radius: float) -> None:
    mask = ellipse(canvas.size, centre, radius, radius)
    canvas.paste(gradient(canvas.size, mix(palette.accents[0], palette.sun, 0.15), palette.sun), (0, 0), mask)
