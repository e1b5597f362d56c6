"""A picture from a prompt, a seed and references. Pure and repeatable: the same three give the same bytes of colour.

Drawn at a middle size and enlarged for 2K, then grained at full size: the softness does not show, and a 2K picture
takes little longer than a 1K one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from . import palettes, scenes
from .brush import Size, blurred, faded, grain, mix, vignette

DRAWN_SIDE_PX = 1440  # longest side that is really drawn; more is enlarged
MARK = "sandbox"


def draw(prompt: str, seed: int, references: Sequence[Image.Image], size: Size) -> Image.Image:
    """The finished picture, RGB, exactly of `size`."""
    rng = _chance(prompt, seed, references)
    words = re.findall(r"[a-z]+", prompt.lower())
    scene = scenes.by_words(words, rng)
    palette = palettes.by_words(words, rng)
    if references:
        palette = palettes.from_picture(references[0])
    canvas = scene(_drawn_size(size), palette, rng)
    if references:
        canvas = _hang(canvas, references, palette, rng)
    vignette(canvas)
    canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    canvas = grain(canvas, rng)
    _mark(canvas)
    return canvas


def _chance(prompt: str, seed: int, references: Sequence[Image.Image]) -> Random:
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode())
    for picture in references:
        digest.update(picture.resize((16, 16)).tobytes())
    return Random(int.from_bytes(digest.digest()[:8]))


def _drawn_size(size: Size) -> Size:
    factor = min(1.0, DRAWN_SIDE_PX / max(size))
    return max(16, round(size[0] * factor)), max(16, round(size[1] * factor))


# --- references -------------------------------------------------------------------------------------------------------


def _hang(
    canvas: Image.Image, references: Sequence[Image.Image], palette: palettes.Palette, rng: Random
) -> Image.Image:
    """The references as framed prints before the scene, in their order, row by row."""
    canvas = canvas.filter(ImageFilter.GaussianBlur(min(canvas.size) * 0.006))
    canvas = Image.blend(canvas, Image.new("RGB", canvas.size, mix(palette.ink, palette.haze, 0.5)), 0.12)
    for picture, (left, top, wide, high) in zip(references, _places(len(references), canvas.size), strict=True):
        _print(canvas, picture, (left + wide / 2, top + high / 2), (wide, high), palette, rng)
    return canvas


def _places(count: int, size: Size) -> list[tuple[float, float, float, float]]:
    """Boxes (left, top, width, height) for `count` prints: the arrangement that gives them most room."""
    width, height = size
    margin = min(size) * 0.07
    columns = max(range(1, count + 1), key=lambda c: _room(count, c, width - 2 * margin, height - 2 * margin))
    rows = -(-count // columns)
    wide, high = (width - 2 * margin) / columns, (height - 2 * margin) / rows
    places = []
    for i in range(count):
        row, column = divmod(i, columns)
        in_row = min(columns, count - row * columns)
        indent = (columns - in_row) * wide / 2
        places.append((margin + indent + column * wide, margin + row * high, wide, high))
    return places


def _room(count: int, columns: int, width: float, height: float) -> float:
    return min(width / columns, height / -(-count // columns))


def _print(
    canvas: Image.Image,
    picture: Image.Image,
    centre: tuple[float, float],
    box: tuple[float, float],
    palette: palettes.Palette,
    rng: Random,
) -> None:
    """One print: white mount, thin frame, a soft shadow, a degree or two out of true."""
    unit = min(box)
    mount, frame = max(2, round(unit * 0.05)), max(1, round(unit * 0.012))
    share = 0.74 if max(box) > max(canvas.size) * 0.6 else 0.86  # a lone print leaves the scene some room
    room = [round(side * share - 2 * (mount + frame)) for side in box]
    image = ImageOps.contain(picture.convert("RGB"), (max(8, room[0]), max(8, room[1])), Image.Resampling.LANCZOS)
    sheet = ImageOps.expand(ImageOps.expand(image, mount, (252, 250, 245)), frame, mix(palette.ink, (20, 18, 22), 0.5))
    angle = rng.uniform(-1.8, 1.8)
    mask = Image.new("L", sheet.size, 255).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    turned = sheet.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    at = (round(centre[0] - turned.width / 2), round(centre[1] - turned.height / 2))
    shadow = Image.new("L", canvas.size)
    shadow.paste(mask, (at[0] + round(unit * 0.012), at[1] + round(unit * 0.03)))
    canvas.paste(palette.ink, (0, 0), faded(blurred(shadow, unit * 0.03), 0.6))
    canvas.paste(turned, at, mask)


def _mark(canvas: Image.Image) -> None:
    """A small word in the corner, so that nobody takes the picture for a provider's."""
    height_px = max(9, round(min(canvas.size) * 0.016))
    font = ImageFont.load_default(height_px)
    at = (canvas.width - height_px, canvas.height - height_px * 0.8)
    pen = ImageDraw.Draw(canvas, "RGBA")
    pen.text((at[0] + 1, at[1] + 1), MARK, font=font, fill=(0, 0, 0, 70), anchor="rs")
    pen.text(at, MARK, font=font, fill=(255, 255, 255, 150), anchor="rs")
