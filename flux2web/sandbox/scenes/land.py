"""Hills, dunes, the sea."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageChops, ImageDraw

from ..brush import (
    Colour,
    Point,
    Size,
    arc,
    bezier,
    blurred,
    ellipse,
    faded,
    gradient,
    mix,
    polygon,
    ramp,
    scaled,
    stencil,
    wave,
)
from ..palettes import Palette
from .light import hang_sun


def hills(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Ridges one behind the other, mist between them, a low sun."""
    canvas, (w, h) = gradient(size, *palette.sky), size
    hang_sun(canvas, palette, rng, height=0.30)
    count = rng.randint(5, 7)
    for layer in range(count):
        depth = layer / (count - 1)
        crest = _crest(size, rng, base=0.46 + 0.44 * depth, swing=0.10 - 0.03 * depth, octaves=6 if depth < 0.3 else 4)
        if depth > 0.7 and layer % 2 != count % 2:
            _pines(canvas, palette, crest, rng, depth)
        _ridge(canvas, palette, crest, depth)
    _birds(canvas, palette, rng, (w * rng.uniform(0.2, 0.75), h * rng.uniform(0.16, 0.3)))
    return canvas


def dunes(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """Great soft curves, each with a lit side and a side in shade."""
    canvas, (w, h) = gradient(size, *palette.sky), size
    hang_sun(canvas, palette, rng, height=0.26)
    count = 5
    for layer in range(count):
        depth = layer / (count - 1)
        crest = _crest(size, rng, base=0.5 + 0.36 * depth, swing=0.09 + 0.03 * depth, octaves=2)
        body = polygon(size, [*crest, (w, h), (0, h)])
        tone = ramp(palette.land[:3], depth * 0.9)
        lit = gradient(size, *[mix(tone, palette.sun, 0.42)] * 2, tone, mix(tone, palette.land[2], 0.3))
        canvas.paste(lit, (0, 0), body)
        _lee(canvas, crest, body, mix(tone, palette.land[-1], 0.62), rng)
    return canvas


def sea(size: Size, palette: Palette, rng: Random) -> Image.Image:
    """A horizon, headlands, the sun's road on the water, perhaps a sail."""
    canvas, (w, h) = gradient(size, *palette.sky), size
    horizon = h * rng.uniform(0.46, 0.56)
    sun = hang_sun(canvas, palette, rng, height=0.28)
    deep = mix(palette.land[2], palette.sky[0], 0.25)
    water = gradient((w, h - int(horizon)), mix(palette.haze, palette.land[0], 0.55), palette.land[1], deep)
    canvas.paste(water, (0, int(horizon)))
    for depth, reach in ((0.05, 0.62), (0.3, 0.42)):
        _headland(canvas, palette, rng, horizon, depth, reach)
    _sun_road(canvas, palette, rng, sun, horizon)
    _swell(canvas, palette, rng, horizon)
    _boat(canvas, palette, (w * rng.uniform(0.25, 0.75), horizon + h * rng.uniform(0.1, 0.2)), min(w, h) * 0.11)
    return canvas


def _crest(size: Size, rng: Random, *, base: float, swing: float, octaves: int) -> list[Point]:
    w, h = size
    curve = wave(rng, octaves)
    step = max(2, w // 300)
    return [(x, h * (base + swing * curve(x / w))) for x in range(0, w + step, step)]


def _ridge(canvas: Image.Image, palette: Palette, crest: list[Point], depth: float) -> None:
    """One ridge: its own tone at the crest, mist towards its foot."""
    w, h = canvas.size
    tone = mix(ramp(palette.land, depth), palette.haze, 0.35 * (1 - depth) ** 2)
    top = int(min(y for _, y in crest))
    foot = mix(tone, palette.haze, 0.55 * (1 - depth) + 0.06)
    fill = gradient((w, max(2, h - top)), mix(tone, palette.sun, 0.10), tone, mix(tone, foot, 0.7), foot)
    mask = polygon(canvas.size, [*crest, (w, h), (0, h)])
    canvas.paste(fill, (0, top), mask.crop((0, top, w, top + fill.height)))


def _pines(canvas: Image.Image, palette: Palette, crest: list[Point], rng: Random, depth: float) -> None:
    """A stand of pines behind the crest of a near ridge, thick in places."""
    unit = min(canvas.size) * (0.022 + 0.03 * depth)
    density = wave(rng, 2)
    places = [p for p in crest[:: max(1, len(crest) // 110)] if density(p[0] / canvas.width) > rng.uniform(-0.4, 0.7)]

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        for x, y in places:
            tall = unit * rng.uniform(0.6, 1.25)
            y += tall * 0.2  # the ridge is drawn over their feet
            for tier in range(4):
                top, wide = y - tall * (1 - tier * 0.22), tall * (0.10 + 0.055 * tier)
                pen.polygon(
                    scaled([(x, top), (x - wide, top + tall * 0.36), (x + wide, top + tall * 0.36)], k), fill=255
                )

    canvas.paste(mix(ramp(palette.land, depth), palette.ink, 0.25), (0, 0), stencil(canvas.size, paint))


def _birds(canvas: Image.Image, palette: Palette, rng: Random, around: Point) -> None:
    unit = min(canvas.size) * 0.012

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        for _ in range(rng.randint(3, 6)):
            x, y, s = (
                around[0] + rng.gauss(0, 6) * unit,
                around[1] + rng.gauss(0, 3) * unit,
                unit * rng.uniform(0.6, 1.2),
            )
            wings = [
                (x - s, y - s * 0.5),
                (x - s * 0.4, y - s * 0.55),
                (x, y),
                (x + s * 0.4, y - s * 0.55),
                (x + s, y - s * 0.5),
            ]
            pen.line(scaled(wings, k), fill=200, width=max(2, round(unit * 0.16 * k)), joint="curve")

    canvas.paste(palette.land[-1], (0, 0), stencil(canvas.size, paint))


def _lee(canvas: Image.Image, crest: list[Point], body: Image.Image, dark: Colour, rng: Random) -> None:
    """The side away from the light: a crescent from every peak of the crest down to the next hollow."""
    sag = canvas.height * rng.uniform(0.05, 0.09)
    for peak, hollow in _falls(crest):
        (x0, y0), (x1, y1) = crest[peak], crest[hollow]
        if y1 - y0 < canvas.height * 0.012:
            continue
        bend, end = (x0 + (x1 - x0) * 0.12, y1 + sag), (x1 + (x1 - x0) * 0.1, y1 + sag * 1.5)
        under = [bezier(end, bend, (x0, y0), t) for t in arc(0, 1, 30)]
        side = polygon(canvas.size, [*crest[peak : hollow + 1], *under])
        canvas.paste(dark, (0, 0), faded(ImageChops.multiply(blurred(side, 1.2), body), 0.85))


def _falls(crest: list[Point]) -> list[tuple[int, int]]:
    """Where the line goes down: places of each peak and of the hollow after it."""
    falls, start = [], 0
    for i in range(1, len(crest)):
        if crest[i][1] < crest[i - 1][1]:
            if i - 1 > start:
                falls.append((start, i - 1))
            start = i
    return [*falls, (start, len(crest) - 1)]


def _headland(canvas: Image.Image, palette: Palette, rng: Random, horizon: float, depth: float, reach: float) -> None:
    w, h = canvas.size
    curve, left = wave(rng, 5), rng.random() < 0.5
    points = []
    for i in range(121):
        at = i / 120
        high = h * (0.05 + 0.13 * depth + 0.12 * (1 - at)) * (1 - at**3) * (0.75 + 0.25 * curve(at))
        points.append((at * reach * w if left else w - at * reach * w, horizon - max(0, high)))
    mask = polygon(canvas.size, [*points, (points[-1][0], horizon + 1), (0 if left else w, horizon + 1)])
    tone = mix(ramp(palette.land, depth + 0.15), palette.haze, 0.4 - depth)
    mirrored = ImageChops.offset(mask.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 0, round(2 * horizon - h))
    below = mirrored.crop((0, int(horizon), w, h)).resize((w, max(1, int((h - horizon) * 0.6))))
    canvas.paste(mix(tone, palette.land[1], 0.4), (0, int(horizon)), faded(blurred(below, 3), 0.45))
    fill = gradient((w, h), tone, tone, mix(tone, palette.haze, 0.35))
    canvas.paste(fill, (0, 0), mask)


def _sun_road(canvas: Image.Image, palette: Palette, rng: Random, sun: Point, horizon: float) -> None:
    w, h = canvas.size

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        for _ in range(230):
            down = rng.random() ** 1.4
            y = horizon + down * (h - horizon)
            x = sun[0] + rng.gauss(0, 0.02 + 0.05 * down) * w
            half, thick = w * rng.uniform(0.006, 0.012 + 0.045 * down), h * (0.0008 + 0.0045 * down)
            pen.ellipse([v * k for v in (x - half, y - thick, x + half, y + thick)], fill=rng.randint(90, 235))

    canvas.paste(palette.sun, (0, 0), stencil(canvas.size, paint))


def _swell(canvas: Image.Image, palette: Palette, rng: Random, horizon: float) -> None:
    """Long low lines, wider apart towards us."""
    w, h = canvas.size

    def paint(pen: ImageDraw.ImageDraw, k: int) -> None:
        for _ in range(150):
            down = rng.random()
            y, x = horizon + down**1.5 * (h - horizon), rng.random() * w
            half, thick = w * rng.uniform(0.02, 0.10) * (0.3 + down), h * (0.0005 + 0.0022 * down)
            pen.ellipse([v * k for v in (x - half, y - thick, x + half, y + thick)], fill=rng.randint(30, 95))

    canvas.paste(palette.land[-1], (0, 0), stencil(canvas.size, paint))


def _boat(canvas: Image.Image, palette: Palette, at: Point, unit: float) -> None:
    x, y = at
    hull = [
        (x - unit * 0.5, y),
        (x + unit * 0.55, y),
        (x + unit * 0.36, y + unit * 0.16),
        (x - unit * 0.36, y + unit * 0.16),
    ]
    main = [(x + unit * 0.02, y - unit * 1.15), (x + unit * 0.02, y - unit * 0.08), (x + unit * 0.5, y - unit * 0.08)]
    jib = [(x - unit * 0.04, y - unit), (x - unit * 0.04, y - unit * 0.08), (x - unit * 0.42, y - unit * 0.08)]
    mirror = ellipse(canvas.size, (x, y + unit * 0.3), unit * 0.45, unit * 0.16)
    canvas.paste(palette.ink, (0, 0), faded(blurred(mirror, unit * 0.05), 0.4))
    canvas.paste(palette.ink, (0, 0), polygon(canvas.size, hull))
    canvas.paste(palette.paper, (0, 0), polygon(canvas.size, main))
    canvas.paste(mix(palette.accents[0], palette.paper, 0.15), (0, 0), polygon(canvas.size, jib))
