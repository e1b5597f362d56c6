"""Between bytes and pictures, and from an order's words to pixels."""

from __future__ import annotations

import io
import math
import warnings

from PIL import Image, ImageOps

from .store import Order

FORMATS = ("JPEG", "PNG", "WEBP")  # docs.revidapi.com, docs.apikley.ru
REFERENCE_PIXELS = 50_000_000
WORKING_SIDE_PX = 1600  # references are shrunk to this at once: eight large ones would fill the memory
SIDES_PX = {"1K": 1024, "2K": 2048}  # the square with as many pixels
STEP_PX = 16
MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}


class NotAPicture(Exception):
    """Bytes that none of the five would take."""


def kind(content: bytes) -> str:
    """The extension that fits the first bytes; empty for anything but JPEG, PNG and WebP."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in MAGIC.items() if content.startswith(magic)), "")


def decoded(content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
            if picture.width * picture.height > REFERENCE_PIXELS:
                raise NotAPicture("too many pixels")
            return _upright(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NotAPicture(str(error)) from error


def _upright(picture: Image.Image) -> Image.Image:
    picture.draft("RGB", (WORKING_SIDE_PX, WORKING_SIDE_PX))
    picture.load()
    turned = ImageOps.exif_transpose(picture).convert("RGBA")
    turned.thumbnail((WORKING_SIDE_PX, WORKING_SIDE_PX))
    white = Image.new("RGB", turned.size, (255, 255, 255))
    white.paste(turned, mask=turned.getchannel("A"))
    return white


def encoded(picture: Image.Image, output_format: str) -> bytes:
    file = io.BytesIO()
    if output_format == "png":
        picture.save(file, "PNG", compress_level=1)
    else:
        picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def size_px(order: Order, references: list[Image.Image]) -> tuple[int, int]:
    """What will be drawn: the order's own pixels, or its ratio ("auto": reference 1's) at its resolution."""
    if order.width_px or order.height_px:
        return order.width_px or 1024, order.height_px or 1024
    if order.aspect_ratio == "auto":
        wide, high = references[0].size if references else (1, 1)
        wide, high = min(wide, high * 3), min(high, wide * 3)  # a ribbon would be all edge
    else:
        wide, high = (int(part) for part in order.aspect_ratio.split(":"))
    side = SIDES_PX[order.resolution]
    return _stepped(side * math.sqrt(wide / high)), _stepped(side * math.sqrt(high / wide))


def _stepped(pixels: float) -> int:
    return max(STEP_PX, round(pixels / STEP_PX) * STEP_PX)
