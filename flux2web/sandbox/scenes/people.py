"""A head and shoulders."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageChops, ImageDraw

from ..brush import Colour, Point, Size, ellipse, faded, gradient, mix, polygon, scaled, smoothed, stencil
from ..palettes import Palette
from .light import disc


def portrait(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """A head in flat shapes before a disc: half in light, half in shade."""
    canvas, (w, h) = gradient(size, *palette.sky), size
    unit, x = min(w, h * 0.8) * 0.5, w / 2
    chin = h * 0.60
    disc(canvas, palette, (x + unit * rng.uniform(-0.16, 0.16), chin - unit * 0.42), unit * 0.74)
    skin = rng.choice(((244, 206, 178), (226, 172, 136), (176, 116, 84), (118, 74, 54)))
    shadow, hair = mix(skin, palette.land[-1], 0.34), mix(palette.land[-1], palette.accents[2], rng.uniform(0, 0.4))
    long = rng.random() < 0.6
    _hair_behind(canvas, hair, (x, chin), unit, long=long)
    _shoulders(canvas, palette, rng, (x, chin), unit)
    _head(canvas, (x, chin), unit, skin, shadow)
    _features(canvas, palette, (x, chin), unit, shadow, hair)
    _fringe(canvas, hair, (x, chin), unit, rng.choice((-1, 1)))
    _earrings(canvas, palette, (x, chin), unit)
    return canvas


def _hair_behind(canvas: Image.Image, hair: Colour, at: Point, unit: float, *, long: bool) -> None:
    x, chin = at
    canvas.paste(hair, (0, 0), ellipse(canvas.size, (x, chin - unit * 0.5), unit * 0.415, unit * 0.45))
    if long:
        low = chin + unit * 0.34
        half = [(0.40, 0.62), (0.43, 0.35), (0.44, 0.1), (0.47, -0.12), (0.42, -0.28), (0.2, -0.34)]
        right = [(x + unit * r, chin - unit * t) for r, t in smoothed(half)]
        canvas.paste(
            hair, (0, 0), polygon(canvas.size, [*right, (x, low), *[(2 * x - a, b) for a, b in reversed(right)]])
        )


def _shoulders(canvas: Image.Image, palette: Palette, rng: Random, at: Point, unit: float) -> None:
    x, chin = at
    cloth = rng.choice((palette.accents[0], palette.land[1], palette.land[2]))
    half = [(0.16, -0.24), (0.36, -0.33), (0.62, -0.45), (0.78, -0.66), (0.88, -1.1), (0.92, -1.8)]
    right = [(x + unit * r, chin - unit * t) for r, t in smoothed(half)]
    body = polygon(canvas.size, [*right, *[(2 * x - a, b) for a, b in reversed(right)]])
    canvas.paste(gradient(canvas.size, cloth, cloth, mix(cloth, palette.ink, 0.35)), (0, 0), body)
    away = polygon(
        canvas.size, [(x, 0), (canvas.width, 0), (canvas.width, canvas.height), (x + unit * 0.1, canvas.height)]
    )
    canvas.paste(mix(cloth, palette.ink, 0.55), (0, 0), faded(ImageChops.multiply(body, away), 0.45))


def _head(canvas: Image.Image, at: Point, unit: float, skin: Colour, shadow: Colour) -> None:
    x, chin = at
    neck = [
        (x - unit * 0.135, chin - unit * 0.2),
        (x + unit * 0.135, chin - unit * 0.2),
        (x + unit * 0.17, chin + unit * 0.28),
        (x, chin + unit * 0.4),
        (x - unit * 0.17, chin + unit * 0.28),
    ]
    canvas.paste(mix(skin, shadow, 0.75), (0, 0), polygon(canvas.size, neck))
    half = [
        (0.0, 0.0),
        (0.12, 0.015),
        (0.235, 0.14),
        (0.295, 0.34),
        (0.31, 0.56),
        (0.28, 0.78),
        (0.16, 0.9),
        (0.0, 0.93),
    ]
    right = [(x + unit * r, chin - unit * t) for r, t in smoothed(half)]
    face = polygon(canvas.size, [*right, *[(2 * x - a, b) for a, b in reversed(right)]])
    canvas.paste(skin, (0, 0), face)
    profile = [
        (0.02, 0.95),
        (0.03, 0.7),
        (0.015, 0.55),
        (0.075, 0.36),
        (0.02, 0.31),
        (0.035, 0.22),
        (0.01, 0.1),
        (0.03, -0.02),
    ]
    edge = [(x + unit * a, chin - unit * b) for a, b in smoothed(profile)]
    far = polygon(canvas.size, [*edge, (canvas.width, edge[-1][1]), (canvas.width, edge[0][1])])
    canvas.paste(shadow, (0, 0), ImageChops.multiply(face, far))


def _features(canvas: Image.Image, palette: Palette, at: Point, unit: float, shadow: Colour, hair: Colour) -> None:
    x, chin = at
    ink = mix(hair, shadow, 0.25)

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        for side in (-1, 1):
            eye = [
                (x + side * unit * a, chin - unit * b)
                for a, b in smoothed([(0.085, 0.475), (0.14, 0.452), (0.205, 0.48)])
            ]
            brow = [
                (x + side * unit * a, chin - unit * b)
                for a, b in smoothed([(0.07, 0.565), (0.14, 0.597), (0.225, 0.57)])
            ]
            pen.line(scaled(eye, k), fill=255, width=max(2, round(unit * 0.014 * k)), joint="curve")
            pen.line(scaled(brow, k), fill=255, width=max(2, round(unit * 0.018 * k)), joint="curve")

    canvas.paste(ink, (0, 0), stencil(canvas.size, paint))
    lips = [
        (-0.085, 0.205),
        (-0.03, 0.226),
        (0.0, 0.216),
        (0.03, 0.226),
        (0.085, 0.205),
        (0.04, 0.168),
        (0.0, 0.16),
        (-0.04, 0.168),
    ]
    mouth = [(x + unit * a, chin - unit * b) for a, b in lips]
    canvas.paste(mix(palette.accents[0], shadow, 0.35), (0, 0), polygon(canvas.size, mouth))


def _fringe(canvas: Image.Image, hair: Colour, at: Point, unit: float, side: int) -> None:
    """Hair over the forehead, parted on one side."""
    x, chin = at
    sweep = [
        (-0.37, 0.40),
        (-0.33, 0.58),
        (-0.22, 0.73),
        (-0.05, 0.80),
        (0.12, 0.79),
        (0.26, 0.67),
        (0.33, 0.52),
        (0.38, 0.38),
    ]
    crown = [(0.42, 0.55), (0.37, 0.80), (0.2, 0.97), (0.0, 1.02), (-0.2, 0.97), (-0.37, 0.80), (-0.42, 0.55)]
    points = [(x + side * unit * a, chin - unit * b) for a, b in [*smoothed(sweep), *smoothed(crown)]]
    canvas.paste(mix(hair, (255, 255, 255), 0.05), (0, 0), polygon(canvas.size, points))


def _earrings(canvas: Image.Image, palette: Palette, at: Point, unit: float) -> None:
    x, chin = at
    for side in (-1, 1):
        canvas.paste(
            palette.accents[1],
            (0, 0),
            ellipse(canvas.size, (x + side * unit * 0.31, chin - unit * 0.2), unit * 0.03, unit * 0.03),
        )
