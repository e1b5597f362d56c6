"""Fruit, a bowl and a bottle; leaves."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageDraw

from ..brush import (
    Colour,
    Point,
    Size,
    arc,
    ball,
    bezier,
    blurred,
    ellipse,
    faded,
    gradient,
    mix,
    polygon,
    ramp,
    scaled,
    smoothed,
    stencil,
)
from ..palettes import Palette
from .light import disc


def still_life(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Fruit, a bowl and a bottle on a table, light from a window on the left."""
    w, h = size
    canvas = gradient(size, mix(palette.haze, palette.paper, 0.3), mix(palette.haze, palette.land[0], 0.35))
    _window_light(canvas, palette, rng)
    table = int(h * rng.uniform(0.64, 0.70))
    wood = mix(palette.land[1], palette.land[2], 0.35)
    canvas.paste(
        gradient((w, h - table), mix(wood, palette.paper, 0.25), wood, mix(wood, palette.ink, 0.3)), (0, table)
    )
    unit, centre = min(w, h) * 0.19, w * rng.uniform(0.42, 0.56)
    foot = table + (h - table) * 0.38
    _vase(canvas, palette, rng, (centre + unit * rng.choice((-1.35, 1.4)), foot - unit * 0.25), unit)
    _bowl(canvas, palette, rng, (centre, foot), unit)
    for i, offset in enumerate((-1.45, 1.25, 1.85)):
        radius = unit * rng.uniform(0.30, 0.44)
        _fruit(
            canvas,
            palette,
            (centre + unit * offset, foot + unit * (0.22 + 0.12 * (i % 2))),
            radius,
            palette.accents[i % 3],
        )
    return canvas


def _window_light(canvas: Image.Image, palette: Palette, rng: Random) -> None:
    """Panes of light thrown on the wall."""
    w, h = canvas.size
    lean, left = h * 0.16, w * rng.uniform(0.08, 0.3)

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        for row in range(2):
            for column in range(2):
                x, y = left + column * w * 0.17, h * 0.08 + row * h * 0.23 + column * lean * 0.22
                pane = [
                    (x, y),
                    (x + w * 0.15, y + lean * 0.2),
                    (x + w * 0.15, y + lean * 0.2 + h * 0.2),
                    (x, y + h * 0.2),
                ]
                pen.polygon(scaled(pane, k), fill=255)

    canvas.paste(palette.sun, (0, 0), faded(blurred(stencil(canvas.size, paint), min(w, h) * 0.012), 0.5))


def _fruit(canvas: Image.Image, palette: Palette, at: Point, radius: float, colour: Colour) -> None:
    x, y = at
    flat = ellipse(canvas.size, (x + radius * 0.35, y + radius * 0.85), radius * 1.25, radius * 0.3)
    canvas.paste(palette.ink, (0, 0), faded(blurred(flat, radius * 0.16), 0.55))
    ball(canvas, (x, y), radius, colour, lit=palette.paper, dark=mix(colour, palette.ink, 0.7))
    stalk = [
        (x - radius * 0.03, y - radius * 0.86),
        (x + radius * 0.16, y - radius * 1.22),
        (x + radius * 0.22, y - radius * 1.18),
        (x + radius * 0.05, y - radius * 0.84),
    ]
    canvas.paste(mix(palette.ink, palette.land[1], 0.2), (0, 0), polygon(canvas.size, stalk))


def _bowl(canvas: Image.Image, palette: Palette, rng: Random, at: Point, unit: float) -> None:
    """A half round of glazed clay with fruit looking over its rim."""
    x, y = at
    clay = mix(palette.accents[2], palette.paper, 0.35)
    rim, rx, ry = y - unit * 0.62, unit * 1.12, unit * 0.24
    floor = ellipse(canvas.size, (x + unit * 0.3, y + unit * 0.26), unit * 1.1, unit * 0.2)
    canvas.paste(palette.ink, (0, 0), faded(blurred(floor, unit * 0.1), 0.6))
    canvas.paste(mix(clay, palette.ink, 0.55), (0, 0), ellipse(canvas.size, (x, rim), rx, ry))
    for k, offset in enumerate((-0.5, 0.46, -0.02)):
        colour = palette.accents[(k + rng.randint(0, 1)) % 3]
        dark = mix(colour, palette.ink, 0.7)
        ball(
            canvas,
            (x + unit * offset, rim - unit * (0.2 + 0.12 * (k == 2))),
            unit * 0.42,
            colour,
            lit=palette.paper,
            dark=dark,
        )
    sides = [(x + rx * math.cos(t), rim + ry * math.sin(t)) for t in arc(0, math.pi)]
    depth = [(x - rx * math.cos(t), rim + unit * 0.92 * math.sin(t) ** 0.8) for t in arc(0, math.pi)]
    body = polygon(canvas.size, [*depth, *sides])
    across = gradient((canvas.height, canvas.width), *_clay_light(clay, palette)).transpose(Image.Transpose.ROTATE_90)
    left, right = round(x - rx), round(x + rx)
    strip = across.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((right - left, canvas.height))
    canvas.paste(strip, (left, 0), body.crop((left, 0, right, canvas.height)))

    def edge(pen: ImageDraw.ImageDraw, k: int) -> None:
        pen.line(scaled(sides, k), fill=230, width=max(2, round(unit * 0.035 * k)), joint="curve")

    canvas.paste(mix(clay, palette.paper, 0.7), (0, 0), stencil(canvas.size, edge))


def _clay_light(clay: Colour, palette: Palette) -> tuple[Colour, ...]:
    """Across a round pot: bright a quarter in from the left, dark at the right, a little light thrown back at the edge."""
    dark = mix(clay, palette.ink, 0.62)
    return (
        mix(clay, dark, 0.35),
        mix(clay, palette.paper, 0.6),
        clay,
        mix(clay, dark, 0.6),
        dark,
        mix(dark, clay, 0.4),
    )


def _vase(canvas: Image.Image, palette: Palette, rng: Random, at: Point, unit: float) -> None:
    """A bottle with a sprig in it."""
    x, y = at
    clay = mix(palette.land[1], palette.accents[1], 0.3)
    profile = [
        (0.44, 0.0),
        (0.56, 0.25),
        (0.58, 0.6),
        (0.46, 0.95),
        (0.2, 1.25),
        (0.13, 1.5),
        (0.15, 1.78),
        (0.2, 1.86),
    ]
    right = [(x + unit * r, y - unit * t) for r, t in smoothed(profile)]
    outline = [*right, *[(2 * x - px, py) for px, py in reversed(right)]]
    flat = ellipse(canvas.size, (x + unit * 0.2, y), unit * 0.62, unit * 0.13)
    canvas.paste(palette.ink, (0, 0), faded(blurred(flat, unit * 0.08), 0.5))
    _sprig(canvas, palette, rng, (x, y - unit * 1.8), unit)
    left, side = round(x - unit * 0.58), round(unit * 1.16)
    strip = gradient((canvas.height, side), *_clay_light(clay, palette)).transpose(Image.Transpose.ROTATE_270)
    strip = strip.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((side, canvas.height))
    canvas.paste(strip, (left, 0), polygon(canvas.size, outline).crop((left, 0, left + side, canvas.height)))


def _sprig(canvas: Image.Image, palette: Palette, rng: Random, at: Point, unit: float) -> None:
    green = mix(palette.land[2], (70, 105, 70), 0.4)
    for lean in (-0.5, 0.12, 0.62):
        tip = (at[0] + unit * lean, at[1] - unit * rng.uniform(0.7, 1.05))
        _leaf_stem(canvas, at, tip, unit * 0.3, mix(green, palette.paper, rng.uniform(0, 0.3)))


def _leaf_stem(canvas: Image.Image, foot: Point, tip: Point, leaf: float, colour: Colour) -> None:
    """A bent stem with pairs of leaves, smaller towards the tip."""
    bend = (foot[0] + (tip[0] - foot[0]) * 0.2, foot[1] + (tip[1] - foot[1]) * 0.6)
    stem = [bezier(foot, bend, tip, i / 24) for i in range(25)]

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        pen.line(scaled(stem, k), fill=255, width=max(2, round(leaf * 0.07 * k)), joint="curve")
        for i in range(5, 25, 3):
            (x0, y0), (x1, y1) = stem[i - 1], stem[i]
            heading, long = math.atan2(y1 - y0, x1 - x0), leaf * (1.15 - i / 40)
            for side in (-0.85, 0.85):
                pen.polygon(scaled(_leaf((x1, y1), heading + side, long), k), fill=255)

    canvas.paste(colour, (0, 0), stencil(canvas.size, paint))


def _leaf(at: Point, heading: float, long: float) -> list[Point]:
    outline = []
    for t in arc(0, 1, 10):
        outline.append((t * long, math.sin(math.pi * t**0.8) * long * 0.2))
    outline += [(x, -y) for x, y in reversed(outline)]
    cos, sin = math.cos(heading), math.sin(heading)
    return [(at[0] + x * cos - y * sin, at[1] + x * sin + y * cos) for x, y in outline]


def leaves(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Stems with leaves from the lower edge, pale ones behind, deep ones in front."""
    canvas, (w, h) = gradient(size, mix(palette.haze, palette.paper, 0.5), palette.haze), size
    disc(canvas, palette, (w * rng.uniform(0.35, 0.65), h * 0.4), min(w, h) * 0.27)
    count = 13
    for i in range(count):
        depth = i / (count - 1)
        foot = (w * ((i * 0.618) % 1.0 * 1.1 - 0.05), h * 1.04)
        tip = (foot[0] + w * rng.uniform(-0.2, 0.2), h * (rng.uniform(0.12, 0.4) + 0.25 * depth))
        accent = palette.accents[i % 2] if i % 4 == 1 else ramp(palette.land, 0.15 + 0.8 * depth)
        _leaf_stem(canvas, foot, tip, min(w, h) * rng.uniform(0.13, 0.2), mix(accent, palette.haze, 0.5 * (1 - depth)))
    return canvas
