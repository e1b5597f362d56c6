"""Skylines and towers."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ..brush import Colour, Point, Size, glow, gradient, mix, ramp, wave
from ..palettes import Palette
from .light import hang_sun


def city(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """A skyline in three depths with lit windows; on water when there is room below."""
    canvas, (w, h) = gradient(size, *palette.sky), size
    hang_sun(canvas, palette, rng, height=0.2)
    ground = int(h * rng.choice((0.78, 0.8, 1.0)))
    lamp = mix(palette.sun, (255, 196, 110), 0.55)
    for depth, base in ((0.15, 0.42), (0.5, 0.5), (0.95, 0.58)):
        _block_row(canvas, palette, rng, depth, base, ground, lamp)
        glow(canvas, (w / 2, ground), w * 0.7, mix(palette.haze, lamp, 0.3), 0.22 * (1 - depth))
    if ground < h:
        _mirror(canvas, palette, rng, ground)
    return canvas


def _block_row(
    canvas: Image.Image, palette: Palette, rng: Random, depth: float, base: float, ground: int, lamp: Colour
) -> None:
    w, h = canvas.size
    tone = mix(ramp(palette.land, 0.25 + 0.75 * depth), palette.haze, 0.45 * (1 - depth))
    pen, x, unit = ImageDraw.Draw(canvas), -0.02 * w, min(w, h)
    skyline = wave(rng, 3)
    while x < w:
        wide = unit * rng.uniform(0.05, 0.12) * (0.7 + 0.5 * depth)
        tall = h * (0.16 + 0.16 * (skyline(x / w) + 1) / 2 + rng.uniform(-0.05, 0.1)) * (1.25 - 0.4 * depth)
        top = h * base + (ground - h * base) * 0.45 - tall * 0.75
        wall = mix(tone, palette.ink, rng.uniform(0, 0.22))
        pen.rectangle((x, top, x + wide, ground), fill=wall)
        pen.rectangle((x + wide * 0.72, top, x + wide, ground), fill=mix(wall, palette.ink, 0.35))
        _roof(pen, rng, x, wide, top, wall, unit)
        if depth > 0.3:
            _windows(pen, rng, (x, top, x + wide, ground), lamp, wall, unit * (0.0105 + 0.006 * depth))
        x += wide * rng.uniform(0.98, 1.16)


def _roof(pen: ImageDraw.ImageDraw, rng: Random, x: float, wide: float, top: float, wall: Colour, unit: float) -> None:
    kind = rng.random()
    if kind < 0.22:
        pen.rectangle((x + wide * 0.25, top - wide * 0.35, x + wide * 0.72, top), fill=wall)
    elif kind < 0.36:
        thin = max(1, unit * 0.0016)
        pen.rectangle((x + wide * 0.5 - thin, top - wide * 0.9, x + wide * 0.5 + thin, top), fill=wall)
    elif kind < 0.5:
        pen.polygon([(x, top + 1), (x + wide, top + 1), (x + wide, top - wide * 0.4)], fill=wall)


def _windows(
    pen: ImageDraw.ImageDraw,
    rng: Random,
    box: tuple[float, float, float, float],
    lamp: Colour,
    wall: Colour,
    cell: float,
) -> None:
    left, top, right, ground = box
    share = rng.uniform(0.18, 0.55)
    y = top + cell
    while y < ground - cell:
        x = left + cell * 0.7
        while x < right - cell * 0.9:
            if rng.random() < share:
                pen.rectangle(
                    (x, y, x + cell * 0.42, y + cell * 0.58), fill=mix(wall, lamp, rng.choice((0.35, 0.7, 0.95)))
                )
            x += cell
        y += cell * 1.25


def _mirror(canvas: Image.Image, palette: Palette, rng: Random, ground: int) -> None:
    """The city again in the water: flipped, pressed, torn by ripples."""
    w, h = canvas.size
    depth = h - ground
    above = canvas.crop((0, max(0, ground - int(depth * 1.9)), w, ground)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    pressed = above.resize((w, depth)).filter(ImageFilter.GaussianBlur(max(1, min(w, h) * 0.0025)))
    rows = max(1, depth // 90)
    for y in range(0, depth, rows):
        shift = round(math.sin(y * 0.9 / rows) * rng.uniform(0, 1) * w * 0.006 * (0.3 + y / depth))
        pressed.paste(ImageChops.offset(pressed.crop((0, y, w, y + rows)), shift, 0), (0, y))
    water = gradient((w, depth), mix(palette.haze, palette.land[2], 0.45), palette.land[-1])
    canvas.paste(Image.blend(pressed, water, 0.42), (0, ground))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((0, ground - max(1, h // 400), w, ground + max(1, h // 500)), fill=palette.ink)


def towers(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Blocks seen from above at an angle, three sides each in its own light, fog at their feet."""
    canvas, (w, h) = gradient(size, *palette.sky), size
    unit = min(w, h) * rng.uniform(0.085, 0.105)
    cells = int((w + h) / unit * 0.7) + 2
    for i in range(-cells, cells):
        for j in range(-cells, cells):
            x = w / 2 + (i - j) * unit * 0.87
            y = h * 0.62 + (i + j) * unit * 0.5
            if -unit < x < w + unit and h * 0.3 < y < h + unit * 5 and rng.random() < 0.8:
                tall = unit * (0.4 + 3.1 * rng.random() ** 2)
                _prism(canvas, palette, rng, (x, y), unit * rng.uniform(0.62, 0.94), tall)
    return canvas


def _prism(canvas: Image.Image, palette: Palette, rng: Random, foot: Point, unit: float, tall: float) -> None:
    x, y = foot
    dx, dy = unit * 0.87, unit * 0.5
    far = 1 - min(1, max(0, (y / canvas.height - 0.3) / 0.7))
    tone = mix(rng.choice((*palette.land[:3], palette.accents[0], palette.accents[1])), palette.haze, 0.2 + 0.6 * far)
    left, right, top = mix(tone, palette.ink, 0.16), mix(tone, palette.ink, 0.5), mix(tone, palette.paper, 0.5)
    pen = ImageDraw.Draw(canvas)
    pen.polygon([(x - dx, y - tall), (x, y + dy - tall), (x, y + dy), (x - dx, y)], fill=left)
    pen.polygon([(x + dx, y - tall), (x, y + dy - tall), (x, y + dy), (x + dx, y)], fill=right)
    pen.polygon([(x - dx, y - tall), (x, y - dy - tall), (x + dx, y - tall), (x, y + dy - tall)], fill=top)
    _slits(pen, rng, (x, y), unit, tall, mix(right, palette.sun, 0.75), mix(left, palette.ink, 0.4))


def _slits(
    pen: ImageDraw.ImageDraw, rng: Random, foot: Point, unit: float, tall: float, lit: Colour, dim: Colour
) -> None:
    """Windows on both visible sides, along their slant."""
    x, y = foot
    dx, dy = unit * 0.87, unit * 0.5
    floors = int(tall / (unit * 0.3))
    for floor in range(floors):
        drop = y - tall + (floor + 0.55) * tall / max(1, floors)
        for k in (0.25, 0.55, 0.8):
            for side, colour in ((-1, dim), (1, lit if rng.random() < 0.4 else dim)):
                a, b, deep = x + side * dx * (1 - k), x + side * dx * (1 - k - 0.12), unit * 0.13
                ya, yb = drop + dy * k, drop + dy * (k + 0.12)
                pen.polygon([(a, ya), (b, yb), (b, yb + deep), (a, ya + deep)], fill=colour)
