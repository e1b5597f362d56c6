"""Currents, silk, cut paper, tiles."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageChops, ImageDraw

from ..brush import SMOOTH, Colour, Point, Size, arc, glow, gradient, light, mix, polygon, ramp, shade, wave
from ..palettes import Palette


def currents(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Strokes that follow an unseen stream, thick in the middle and thin at their ends."""
    canvas, (w, h) = gradient(size, mix(palette.haze, palette.paper, 0.4), palette.haze, palette.sky[0]), size
    a, b = wave(rng, 3), wave(rng, 3)
    colours = [*palette.land, *palette.accents, palette.paper, palette.land[-1]]
    unit = min(w, h)
    pen_sheet = canvas.resize((w * SMOOTH, h * SMOOTH), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(pen_sheet)
    for _ in range(340):
        x, y = rng.uniform(-0.1, 1.1), rng.uniform(-0.1, 1.1)
        width, colour = unit * rng.choice((0.002, 0.003, 0.005, 0.008, 0.012)), rng.choice(colours)
        path = [(x, y)]
        for _ in range(rng.randint(24, 70)):
            heading = 2.6 * (a(x * 0.7 + 0.1) + b(y * 0.7 + 0.3)) + 1.2 * a(y) * b(x)
            x, y = x + math.cos(heading) * 0.0075, y + math.sin(heading) * 0.0075
            path.append((x, y))
        _taper(pen, [(px * w * SMOOTH, py * h * SMOOTH) for px, py in path], width * SMOOTH, colour)
    return pen_sheet.reduce(SMOOTH)


def _taper(pen: ImageDraw.ImageDraw, path: list[Point], width_px: float, colour: Colour) -> None:
    last = len(path) - 1
    for i in range(last):
        wide = width_px * math.sin(math.pi * (i + 0.5) / last) ** 0.6
        pen.line([path[i], path[i + 1]], fill=colour, width=max(1, round(wide)))
        if wide > 4:
            x, y = path[i + 1]
            pen.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=colour)


def silk(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """A cloth of folds. Computed on a coarse grid and enlarged: cloth has no hard edges."""
    w, h = size
    columns = 200 if w >= h else max(16, 200 * w // h)
    rows = max(16, columns * h // w)
    sway, pull, twist = wave(rng, 3, 0.45), wave(rng, 3, 0.45), wave(rng, 2)
    lean, folds = rng.uniform(-1.2, 1.2), rng.uniform(2.2, 3.4) * math.tau * (h / max(w, h))
    tones = [*palette.land[::-1], mix(palette.land[0], palette.paper, 0.5), palette.paper]
    table = [ramp(tones, i / 255) for i in range(256)]
    across = [(sway(c / columns), pull(c / columns), twist(c / columns)) for c in range(columns)]
    cloth = Image.new("RGB", (columns, rows))
    for r in range(rows):
        y = r / rows
        for c, (a, b, t) in enumerate(across):
            phase = folds * y + lean * c / columns * 2 + 2.6 * ((1 - y) * a + y * b) + 0.8 * math.sin(3 * y + 2 * t)
            value = 0.52 + 0.36 * math.sin(phase + 0.75 * math.sin(phase)) + 0.09 * math.sin(3.1 * phase + 4 * t)
            cloth.putpixel((c, r), table[min(255, max(0, int(value * 255)))])
    return cloth.resize(size, Image.Resampling.BICUBIC)


def paper_cut(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Sheets with wavy holes laid over each other, each throwing a shadow on the one below."""
    w, h = size
    canvas = gradient(size, palette.sun, mix(palette.sun, palette.accents[0], 0.4))
    centre = (w * rng.uniform(0.42, 0.58), h * rng.uniform(0.42, 0.56))
    glow(canvas, centre, min(w, h) * 0.2, palette.paper, 0.9)
    count = 7
    tones = [palette.accents[0], *palette.land[::1]] if rng.random() < 0.5 else [palette.sun, *palette.land]
    for layer in range(count):
        reach = 0.16 + 0.50 * (layer / (count - 1)) ** 0.9
        hole = polygon(size, _blob(rng, centre, w * reach, h * reach, 0.10 + 0.01 * layer))
        sheet = ImageChops.invert(hole)
        shade(
            canvas,
            sheet,
            by=(min(size) * 0.007, min(size) * 0.012),
            radius_px=min(size) * 0.016,
            strength=0.55,
            ink=palette.ink,
        )
        tone = ramp(tones, layer / (count - 1))
        canvas.paste(gradient(size, mix(tone, palette.paper, 0.14), tone), (0, 0), sheet)
    return canvas


def _blob(rng: Random, centre: Point, rx: float, ry: float, rough: float) -> list[Point]:
    parts = [
        (rng.randint(2, 3), rng.random() * 7, 1.0),
        (rng.randint(4, 6), rng.random() * 7, 0.6),
        (rng.randint(7, 9), rng.random() * 7, 0.3),
    ]
    points = []
    for t in arc(0, math.tau, 180):
        stretch = 1 + rough * sum(k * math.sin(n * t + p) for n, p, k in parts)
        points.append((centre[0] + rx * stretch * math.cos(t), centre[1] + ry * stretch * math.sin(t)))
    return points


def abstract(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Quarter circles, discs and bars on a grid, in the manner of the twenties."""
    w, h = size
    cell = min(w, h) / rng.choice((4, 5, 6))
    columns, rows = math.ceil(w / cell), math.ceil(h / cell)
    colours = [palette.paper, *palette.land, *palette.accents[:3], palette.sun]
    large = Image.new("RGB", (w * SMOOTH, h * SMOOTH), palette.paper)
    pen, side = ImageDraw.Draw(large), cell * SMOOTH
    previous = palette.paper
    for row in range(rows):
        for column in range(columns):
            ground, figure, third = _three(rng, colours, previous)
            _tile(pen, rng, (column * side, row * side), side, (ground, figure, third))
            previous = ground
    return large.reduce(SMOOTH)


def _three(rng: Random, colours: list[Colour], previous: Colour) -> tuple[Colour, Colour, Colour]:
    """Three colours that can be told apart."""
    ground = rng.choice([c for c in colours if c != previous])
    figure = max(rng.sample(colours, 4), key=lambda c: abs(light(c) - light(ground)))
    return ground, figure, rng.choice([c for c in colours if c not in (ground, figure)] or colours)


def _tile(pen: ImageDraw.ImageDraw, rng: Random, at: Point, s: float, tones: tuple[Colour, Colour, Colour]) -> None:
    (x, y), (ground, figure, third) = at, tones
    pen.rectangle((x, y, x + s, y + s), fill=ground)
    corner_x, corner_y = x + s * rng.choice((0, 1)), y + s * rng.choice((0, 1))
    turn = rng.choice((0, 90, 180, 270))
    kind = rng.randrange(6)
    if kind <= 1:
        for reach, tone in ((1.0, figure), (0.62, third), (0.28, ground))[: rng.randint(1, 3)]:
            _quarter(pen, (x, y, s), (corner_x, corner_y), s * reach, tone)
    elif kind == 2:
        pen.pieslice((x + s * 0.08, y + s * 0.08, x + s * 0.92, y + s * 0.92), turn, turn + 180, fill=figure)
    elif kind == 3:
        pen.ellipse((x + s * 0.14, y + s * 0.14, x + s * 0.86, y + s * 0.86), fill=figure)
        pen.ellipse((x + s * 0.36, y + s * 0.36, x + s * 0.64, y + s * 0.64), fill=third)
    elif kind == 4:
        for bar in range(4):
            pen.rectangle((x, y + s * bar / 4, x + s, y + s * (bar + 0.5) / 4), fill=figure)
    else:
        pen.polygon([(x, y), (x + s, y), (corner_x, y + s)], fill=figure)


def _quarter(
    pen: ImageDraw.ImageDraw, tile: tuple[float, float, float], corner: Point, reach: float, tone: Colour
) -> None:
    x, y, _ = tile
    start = {(True, True): 0, (False, True): 90, (False, False): 180, (True, False): 270}[
        corner[0] == x, corner[1] == y
    ]
    box = (corner[0] - reach, corner[1] - reach, corner[0] + reach, corner[1] + reach)
    pen.pieslice(box, start, start + 90, fill=tone)
