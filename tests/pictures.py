"""Files that people upload: good ones, and ones that only look like it."""

from __future__ import annotations

import io

from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

# A lossless WebP of 40 bytes whose header claims 16384 x 16384: 268 megapixels.
HUGE_WEBP = b"RIFF" + (32).to_bytes(4, "little") + b"WEBPVP8L" + (20).to_bytes(4, "little")
HUGE_WEBP += b"\x2f" + ((16383 | 16383 << 14).to_bytes(4, "little")) + b"\0" * 15


def picture(color: str = "tomato", size: tuple[int, int] = (60, 40), form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, form)
    return file.getvalue()


def upload(content: bytes | None = None, name: str = "vase.png", mime: str = "image/png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, picture() if content is None else content, mime)
