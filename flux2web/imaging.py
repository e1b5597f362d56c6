"""Bytes -> safe bytes: strict decoding, re-encoding, thumbnails. Standard library and Pillow, nothing of the house.

What we store holds one upright picture and nothing else: no EXIF, no comment, no profile, no second frame, no bytes
behind the end. Uploads are drawn anew by our encoder. Results keep the pixels that were paid for: their files are taken
apart, and only the pieces that a decoder needs are put together again; where that is not enough, they are drawn anew.

Nothing is believed before it is proven: the format is read from the first bytes, the size from the
header before any decoding (a WebP of 40 bytes claims 268 megapixels), and the end must be there, because Pillow decodes
cut PNGs without a word. What Pillow raises is of many types, so any exception means: not a picture that we take.

The house calls `save_upload` and `save_result`, which work in a child process with limits ("the child", below).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, ParamSpec, TypeVar, cast
from xml.sax.saxutils import escape

from PIL import AvifImagePlugin, Image, ImageCms
from pillow_heif import register_heif_opener

try:
    import resource
except ImportError:  # Windows, where the child has no limits of the system's
    resource = None  # type: ignore[assignment]

UPLOAD_MAX_BYTES = 10 * 2**20
SHRINK_MAX_BYTES = 40 * 2**20  # of a file that its owner lets us make smaller
RESULT_MAX_BYTES = 30 * 2**20
PIXELS_MAX = 40_000_000
# A reference of more is kept half as wide and high: that is still 4 megapixels, and FLUX.2 looks at no more.
KEPT_PIXELS_MAX = 16_000_000
THUMBNAIL_WIDTHS_PX = (320, 640)
WEBP_HEIGHT_MAX_PX = 16_383

UPLOAD_JPEG_QUALITY, RESULT_JPEG_QUALITY, THUMBNAIL_QUALITY = 92, 95, 80
DOWNLOAD_QUALITY = 92  # of JPEG and WebP that somebody asked for instead of the original
PNG_COMPRESS_LEVEL = 3  # measured 2026-11 at 40 MP: 4 s, 11 % larger than level 6, which takes 17 s

# Pillow warns at its limit and raises only at twice that; `_strictly` makes the warning an error. This guards what we
# cannot see beforehand: frames, tiles, whatever a decoder makes of a header.
Image.MAX_IMAGE_PIXELS = PIXELS_MAX

# One thread: a picture at a time is decoded in a child, and each thread's stack and heap count as memory.
register_heif_opener(decode_threads=1, thumbnails=False)

RESULT_FORMATS = ("JPEG", "PNG", "WEBP")
UPLOAD_FORMATS = (*RESULT_FORMATS, "GIF", "TIFF", "BMP", "AVIF", "HEIC")
PILLOW_NAMES = {"HEIC": "HEIF"}  # where people call a format otherwise
MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

P = ParamSpec("P")
T = TypeVar("T")


class BadImage(Exception):
    """Not a picture that we take. The message tells a person what is wrong and what to do."""


@dataclass(frozen=True)
class Picture:
    """A file as we store it."""

    data: bytes
    mime: str
    ext: str
    width_px: int
    height_px: int
    sha256: str


def _picture(data: bytes, form: str, size: tuple[int, int]) -> Picture:
    return Picture(data, MIMES[form], EXTENSIONS[form], *size, hashlib.sha256(data).hexdigest())


# --- the four things to do -------------------------------------------------------------------------------------------


def _strictly(function: Callable[P, T]) -> Callable[P, T]:
    """Whatever goes wrong inside is the picture's fault, and said to a person."""

    @functools.wraps(function)
    def guarded(*args: P.args, **options: P.kwargs) -> T:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return function(*args, **options)
        except BadImage:
            raise
        except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BadImage(TOO_MANY_PIXELS) from None
        except Exception as problem:
            raise BadImage(DAMAGED) from problem

    return guarded


@_strictly
def clean_upload(source: bytes) -> Picture:
    """A member's reference, drawn anew: PNG where the source was lossless or has transparency, JPEG otherwise."""
    return _upload(source, UPLOAD_MAX_BYTES)


@_strictly
def shrunk_upload(source: bytes) -> Picture:
    """The same of a file that may be longer than a reference: what comes out never is."""
    return _upload(source, SHRINK_MAX_BYTES)


def _upload(source: bytes, max_bytes: int) -> Picture:
    form = _recognised(source, UPLOAD_FORMATS, max_bytes)
    _check_whole(form, source)
    _check_memory(form, source)
    image = _plain(*_kept(source, form))
    lossless = form == "PNG" or image.mode == "RGBA" or source[12:16] == b"VP8L"
    return _drawn(image, lossless=lossless, quality=UPLOAD_JPEG_QUALITY, max_bytes=UPLOAD_MAX_BYTES)


@_strictly
def clean_result(source: bytes) -> Picture:
    """A provider's result with its very pixels, unless a profile, a rotation or an odd build asks for a new drawing."""
    form = _recognised(source, RESULT_FORMATS, RESULT_MAX_BYTES)
    bare = STRIPPERS[form](source)
    if bare is None or _needs_drawing(_opened(source, form)):
        _check_whole(form, source)
        image = _plain(*_decoded(source, form))
        return _drawn(image, lossless=form == "PNG", quality=RESULT_JPEG_QUALITY, max_bytes=RESULT_MAX_BYTES)
    return _picture(bare, form, _decoded(bare, form).image.size)  # decoding what we keep, not what came, is the proof


@_strictly
def thumbnails(picture_data: bytes, widths: tuple[int, ...] = THUMBNAIL_WIDTHS_PX) -> dict[int, Picture]:
    """WebP previews by width in px, never larger than the picture."""
    form = _recognised(picture_data, RESULT_FORMATS, RESULT_MAX_BYTES)
    image = _opened(picture_data, form)
    image.draft("RGB", (max(widths), max(widths)))  # a JPEG is decoded at the next larger eighth
    plain = _plain(*_loaded(image))
    return {width: _thumbnail(plain, width) for width in widths}


def _thumbnail(image: Image.Image, width_px: int) -> Picture:
    scale = min(1, width_px / image.width, WEBP_HEIGHT_MAX_PX / image.height)
    small = _scaled(image, scale)
    return _picture(_encoded(small, "WEBP", quality=THUMBNAIL_QUALITY, method=4), "WEBP", small.size)


@_strictly
def converted(picture_data: bytes, form: str) -> Picture:
    """One of our own pictures in another format. What a JPEG cannot say of transparency is white."""
    image = _plain(*_decoded(picture_data, _recognised(picture_data, RESULT_FORMATS, RESULT_MAX_BYTES)))
    if form == "PNG":
        return _picture(_encoded(image, form, **_encoder_options(form, 0)), form, image.size)
    if form == "JPEG":
        return _picture(_encoded(_on_white(image), form, **_encoder_options(form, DOWNLOAD_QUALITY)), form, image.size)
    if max(image.size) > WEBP_HEIGHT_MAX_PX:
        raise BadImage("This picture is too long for WebP. Take it as PNG or JPEG.")
    return _picture(_encoded(image, form, quality=DOWNLOAD_QUALITY, method=4), form, image.size)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def _upload_and_thumbnail(source: bytes) -> dict[int, Picture]:
    return _with_thumbnail(clean_upload(source))


def _shrunk_and_thumbnail(source: bytes) -> dict[int, Picture]:
    return _with_thumbnail(shrunk_upload(source))


def _with_thumbnail(picture: Picture) -> dict[int, Picture]:
    return {0: picture, **thumbnails(picture.data, THUMBNAIL_WIDTHS_PX[:1])}


def _result_and_thumbnails(source: bytes) -> dict[int, Picture]:
    picture = clean_result(source)
    return {0: picture, **thumbnails(picture.data)}


# --- what is it? -----------------------------------------------------------------------------------------------------

ADVICE = "Send a JPEG, PNG or WebP file."
TOO_MANY_PIXELS = f"This picture has more than {PIXELS_MAX // 10**6} megapixels. Make it smaller and send it again."
DAMAGED = f"This picture is damaged or cut short. Save it again, or {ADVICE[0].lower()}{ADVICE[1:]}"

_SIGNATURES = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*")),
    ("BMP", re.compile(rb"BM")),
    ("AVIF", re.compile(rb"....ftyp(avi[fs]|(mif1|msf1)(....){1,16}?avi[fs])", re.DOTALL)),
    ("HEIC", re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL)),
    ("a PDF", re.compile(rb"%PDF")),
    ("a video", re.compile(rb"....ftyp|\x1aE\xdf\xa3", re.DOTALL)),
    ("a Photoshop file", re.compile(rb"8BPS")),
    ("an SVG drawing", re.compile(rb"\s*<(.*<)?svg", re.DOTALL | re.IGNORECASE)),
    ("a web page", re.compile(rb"\s*<(!DOCTYPE html|html|head|body|script)", re.IGNORECASE)),
    ("a ZIP archive", re.compile(rb"PK\x03\x04")),
    ("text", re.compile(rb"[\t\n\r\x20-\x7e]+\Z")),
)


def _recognised(source: bytes, forms: tuple[str, ...], max_bytes: int) -> str:
    """The format that the first bytes tell, if we take it, the file is not too long and claims not too many pixels."""
    if not source:
        raise BadImage(f"This file is empty. {ADVICE}")
    if len(source) > max_bytes:
        raise BadImage(f"This file has more than {max_bytes // 2**20} MB. Make it smaller and send it again.")
    found = next((name for name, signature in _SIGNATURES if signature.match(source[:1024])), None)
    if found is None:
        raise BadImage(f"This file is no picture that can be read here. {ADVICE}")
    if found not in forms:
        raise BadImage(f"This file is {found}. {ADVICE}")
    size = _claimed_size(found, source)
    if size and size[0] * size[1] > PIXELS_MAX:
        raise BadImage(TOO_MANY_PIXELS)
    return found


def _claimed_size(form: str, source: bytes) -> tuple[int, int] | None:
    """The size in the header, for the formats that are attacked most, where even opening may allocate."""
    if form == "PNG":
        if source[12:16] != b"IHDR":  # then these are no sizes
            raise BadImage(DAMAGED)
        return struct.unpack_from(">II", source, 16)
    if form == "GIF":
        return struct.unpack_from("<HH", source, 6)
    if form == "WEBP":
        return _webp_size(source)
    return None  # Pillow reads the header alone, and `_opened` judges it


def _webp_size(source: bytes) -> tuple[int, int]:
    kind, data = source[12:16], source[20:30]
    if kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 6)
    return width & 0x3FFF, height & 0x3FFF


# --- does it fit? ----------------------------------------------------------------------------------------------------
#
# Of 40 megapixels our own copy is 160 MB. Some decoders hold much beside it, measured 2026-11 in bytes a pixel: WebP 12,
# AVIF 4 to 10, HEIC 4 to 8, TIFF up to 8 where all of it is one strip, JPEG up to 8 where it comes in several scans.

COSTLY_PIXELS_MAX = {
    "WebP": 14_000_000,
    "AVIF": 14_000_000,
    "HEIC": 25_000_000,  # phones make 24
    "HEIC with transparency": 16_000_000,
    "TIFF": 20_000_000,
    "progressive JPEG": 28_000_000,
}


def _check_memory(form: str, source: bytes) -> None:
    """An upload that would take more than its share of our memory is refused before it is decoded."""
    kind = _kind(form, source)
    most = COSTLY_PIXELS_MAX.get(kind, PIXELS_MAX)
    width, height = _claimed_size(form, source) or _opened(source, form).size
    if width * height > most:
        article, better = "An" if kind == "AVIF" else "A", "a baseline JPEG" if form == "JPEG" else "a JPEG"
        limit = f"{article} {kind} may have {most // 10**6} megapixels here."
        raise BadImage(f"{limit} Save it as {better}, or make it smaller.")


def _kind(form: str, source: bytes) -> str:
    if form == "JPEG":
        scans = sum(piece.name[0] == _SOS for piece in _jpeg_segments(source))
        return "progressive JPEG" if scans > 1 else form
    if form == "HEIC" and _opened(source, form).mode == "RGBA":
        return "HEIC with transparency"
    return "WebP" if form == "WEBP" else form


# --- is it whole? And what of it does a decoder need? ----------------------------------------------------------------


class _Piece(NamedTuple):
    """A JPEG segment, a PNG chunk or a RIFF chunk: its name, its content, and all its bytes as they stand in the file."""

    name: bytes
    content: bytes
    whole: bytes


def _check_whole(form: str, source: bytes) -> None:
    """The end is there and the checksums are right, for the formats whose decoder does not mind."""
    if form in STRIPPERS:
        STRIPPERS[form](source)
    elif form in ("AVIF", "HEIC"):
        _check_boxes(source)


def _check_boxes(source: bytes) -> None:
    """ISO 14496-12: boxes one behind the other, each with its length; 1: it follows in 8 bytes; 0: up to the end."""
    position = 0
    while position < len(source):
        length = int.from_bytes(source[position : position + 4], "big")
        if length == 0:
            return
        if length == 1:
            length = int.from_bytes(source[position + 8 : position + 16], "big")
        if length < 8 or position + length > len(source):
            raise BadImage(DAMAGED)
        position += length


# JPEG (ITU T.81): markers with a length, and after each SOS a scan up to the next marker that is no restart.
_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_JPEG_NEEDED = {0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD}  # SOF baseline to progressive, DHT, SOS, DQT, DRI
# Lossless, hierarchical, arithmetic: no browser reads them.
_JPEG_RARE = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EOI, _SOS, _APP0, _APP14 = 0xD9, 0xDA, 0xE0, 0xEE
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"  # no resolution, no thumbnail


def _stripped_jpeg(source: bytes) -> bytes:
    """Tables, frame and scans, up to the first EOI. JFIF and Adobe stay, in short: they decide how colours are read."""
    kept = [b"\xff\xd8"]  # SOI
    for piece in _jpeg_segments(source):
        marker = piece.name[0]
        if marker in _JPEG_RARE:
            raise BadImage(f"This JPEG is of a rare kind that browsers cannot show. {ADVICE}")
        if marker in _JPEG_NEEDED:
            kept.append(piece.whole)
        elif marker == _APP0 and piece.content.startswith(b"JFIF\0"):
            kept.append(_JFIF)
        elif marker == _APP14 and piece.content.startswith(b"Adobe"):
            kept.append(b"\xff\xee\x00\x0e" + piece.content[:12])
    return b"".join([*kept, b"\xff\xd9"])


def _jpeg_segments(source: bytes) -> Iterator[_Piece]:
    """All segments between SOI and EOI, scans with their data. No EOI: the file was cut."""
    position = 2
    while True:
        start = position
        while source[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        if position + 2 > len(source) or source[position] != 0xFF:
            raise BadImage(DAMAGED)
        marker = source[position + 1]
        if marker == _EOI:
            return
        end = position + 2 + int.from_bytes(source[position + 2 : position + 4], "big")
        content = source[position + 4 : end]
        if marker == _SOS:
            end = _scan_end(source, end)
        yield _Piece(bytes([marker]), content, source[start:end])
        position = end


def _scan_end(source: bytes, position: int) -> int:
    found = _SCAN_END.search(source, position)
    if found is None:
        raise BadImage(DAMAGED)
    return found.start()


# PNG (W3C, third edition): length, name, content, CRC. Four chunks make the picture, tRNS its transparency.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _stripped_png(source: bytes) -> bytes | None:
    """The chunks that make the picture; None where more data is packed in than the picture has."""
    chunks = [chunk for chunk in _png_chunks(source) if chunk.name in _PNG_NEEDED]
    packed = b"".join(chunk.content for chunk in chunks if chunk.name == b"IDAT")
    exact = _check_png_data(packed, _png_data_bytes(chunks[0].content))
    return _PNG_SIGNATURE + b"".join(chunk.whole for chunk in chunks) if exact else None


def _png_chunks(source: bytes) -> Iterator[_Piece]:
    """All chunks up to IEND, each with its checksum proven."""
    position, name = len(_PNG_SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", source, position)
        end = position + 12 + length
        whole = source[position:end]
        if len(whole) < 12 + length or zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise BadImage(DAMAGED)
        yield _Piece(name, whole[8:-4], whole)
        position = end


def _png_data_bytes(header: bytes) -> int:
    """How many bytes the rows have when unpacked: each row of each pass, with its filter byte."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _PNG_CHANNELS[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)


def _check_png_data(packed: bytes, expected_bytes: int) -> bool:
    """Unpacks without keeping: enough bytes, then an end with a right checksum. True where it is exactly enough."""
    unpack, found_bytes, rest = zlib.decompressobj(), 0, packed
    while found_bytes <= expected_bytes and (rows := unpack.decompress(rest, 2**20)):
        found_bytes += len(rows)
        rest = unpack.unconsumed_tail
    if found_bytes < expected_bytes or (found_bytes == expected_bytes and not unpack.eof):
        raise BadImage(DAMAGED)
    return found_bytes == expected_bytes and not unpack.unused_data


# WebP (RFC 9649): RIFF chunks of even length.


def _stripped_webp(source: bytes) -> bytes | None:
    """The one frame and its transparency; None for an animation."""
    chunks = {chunk.name: chunk for chunk in reversed(list(_webp_chunks(source)))}  # the first of a name counts
    if b"ANIM" in chunks or b"ANMF" in chunks:
        return None
    if b"VP8L" in chunks:
        return _riff(chunks[b"VP8L"].whole)
    if b"ALPH" in chunks:
        extended = bytes([0x10, 0, 0, 0]) + chunks[b"VP8X"].content[4:10]  # "has transparency", and the size
        return _riff(b"VP8X" + struct.pack("<I", 10) + extended, chunks[b"ALPH"].whole, chunks[b"VP8 "].whole)
    return _riff(chunks[b"VP8 "].whole)


def _webp_chunks(source: bytes) -> Iterator[_Piece]:
    position, end = 12, 8 + int.from_bytes(source[4:8], "little")
    if end > len(source):
        raise BadImage(DAMAGED)
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", source, position)
        content = source[position + 8 : min(position + 8 + length, end)]
        if len(content) < length:
            raise BadImage(DAMAGED)
        yield _Piece(name, content, struct.pack("<4sI", name, length) + content + b"\0" * (length % 2))
        position += 8 + length + length % 2


def _riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


STRIPPERS: dict[str, Callable[[bytes], bytes | None]] = {
    "JPEG": _stripped_jpeg,
    "PNG": _stripped_png,
    "WEBP": _stripped_webp,
}


# --- words in files ----------------------------------------------------------------------------------------------------
#
# How a picture was made, for whoever opens the file elsewhere: XMP (ISO 16684-1) in each format, in PNG a plain text
# beside it, which more programs read. Only into copies that somebody takes away: what is stored says nothing.

XMP_MAX_BYTES = 65_000  # a JPEG segment has 65,533 in all
_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_PNG = b"XML:com.adobe.xmp"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" \
xmlns:flux2web="urn:flux2web:1">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{prompt}</rdf:li></rdf:Alt></dc:description>
<xmp:CreatorTool>flux2web</xmp:CreatorTool>
{rest}
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def with_words(picture: Picture, words: Mapping[str, str]) -> Picture:
    """The same pixels in a file that says these words; `prompt` is one of them. Empty ones are left out."""
    said = {name: _sayable(text) for name, text in words.items() if text}
    form = next(form for form, mime in MIMES.items() if mime == picture.mime)
    data = WORDED[form](picture.data, said, picture)
    return _picture(data, form, (picture.width_px, picture.height_px))


def _sayable(text: str) -> str:
    """Without what no XML can hold."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\ud800" <= char <= "\udfff"))


def _xmp(words: Mapping[str, str]) -> bytes:
    """A prompt that is too long for it is cut."""
    rest = [(name, text) for name, text in words.items() if name != "prompt"]
    prompt = words.get("prompt", "")
    while True:
        fields = "\n".join(f"<flux2web:{name}>{escape(text)}</flux2web:{name}>" for name, text in rest)
        packet = _XMP.format(prompt=escape(prompt), rest=fields).encode()
        if len(packet) <= XMP_MAX_BYTES:
            return packet
        prompt = prompt[: len(prompt) * 9 // 10]


def _worded_jpeg(data: bytes, words: Mapping[str, str], _: Picture) -> bytes:
    """Behind JFIF's segment, where there is one: it must be the first."""
    end = 4 + int.from_bytes(data[4:6], "big") if data[2:4] == b"\xff\xe0" else 2
    segment = _XMP_JPEG + _xmp(words)
    return data[:end] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[end:]


def _worded_png(data: bytes, words: Mapping[str, str], _: Picture) -> bytes:
    """Behind the header, in iTXt chunks: keyword, not compressed, no language, text."""
    listed = "\n".join(
        [words.get("prompt", ""), *(f"{name}: {text}" for name, text in words.items() if name != "prompt")]
    )
    texts = [(b"parameters", listed.encode()), (_XMP_PNG, _xmp(words))]
    end = len(_PNG_SIGNATURE) + 25
    return data[:end] + b"".join(_png_text(keyword, text) for keyword, text in texts) + data[end:]


def _png_text(keyword: bytes, text: bytes) -> bytes:
    content = b"iTXt" + keyword + b"\0\0\0\0\0" + text
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _worded_webp(data: bytes, words: Mapping[str, str], picture: Picture) -> bytes:
    """In the extended format, whose header says what comes: here transparency and XMP."""
    chunks = [chunk for chunk in _webp_chunks(data) if chunk.name != b"VP8X"]
    has_alpha = any(chunk.name == b"ALPH" or (chunk.name == b"VP8L" and chunk.content[4] & 0x10) for chunk in chunks)
    size = (picture.width_px - 1).to_bytes(3, "little") + (picture.height_px - 1).to_bytes(3, "little")
    header = b"VP8X" + struct.pack("<I", 10) + bytes([0x04 | (0x10 if has_alpha else 0), 0, 0, 0]) + size
    packet = _xmp(words)
    said = b"XMP " + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) % 2)
    return _riff(header, *(chunk.whole for chunk in chunks), said)


WORDED: dict[str, Callable[[bytes, Mapping[str, str], Picture], bytes]] = {
    "JPEG": _worded_jpeg,
    "PNG": _worded_png,
    "WEBP": _worded_webp,
}


# --- pixels ----------------------------------------------------------------------------------------------------------

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NO_METADATA: dict[str, Any] = {"exif": b"", "icc_profile": None}


class _Loaded(NamedTuple):
    """The pixels, and what their file says of how to look at them."""

    image: Image.Image
    turn: Image.Transpose | None
    profile: bytes | None


def _opened(source: bytes, form: str) -> Image.Image:
    """The header read by this format's decoder and no other."""
    image = Image.open(io.BytesIO(source), formats=[PILLOW_NAMES.get(form, form)])
    if image.width * image.height > PIXELS_MAX:
        raise BadImage(TOO_MANY_PIXELS)
    return image


def _decoded(source: bytes, form: str) -> _Loaded:
    return _loaded(_opened(source, form))


def _kept(source: bytes, form: str) -> _Loaded:
    """As large as a reference is kept."""
    image = _opened(source, form)
    if image.width * image.height <= KEPT_PIXELS_MAX:
        return _loaded(image)
    size = image.size
    image.draft(None, (-(-size[0] // 2), -(-size[1] // 2)))  # a JPEG is read so in the first place
    loaded = _loaded(image)
    return loaded if loaded.image.size != size else loaded._replace(image=_halved(loaded.image))


def _loaded(image: Image.Image) -> _Loaded:
    """Its pixels alone: with the opened file goes what its decoder holds, of a WebP three times as much as the picture."""
    image.load()
    return _Loaded(image._new(image.im), _turn(image), image.info.get("icc_profile"))


STRIP_PX = 256


def _halved(image: Image.Image) -> Image.Image:
    """Half as wide and high, strip by strip: of 40 megapixels at once each step would be another 160 MB."""
    mode = _straight(image.crop((0, 0, 1, 1))).mode
    small = Image.new(mode, (-(-image.width // 2), -(-image.height // 2)))
    for top in range(0, image.height, STRIP_PX):
        strip = image.crop((0, top, image.width, min(top + STRIP_PX, image.height)))
        small.paste(_straight(strip).reduce(2), (0, top // 2))
    return small


def _needs_drawing(image: Image.Image) -> bool:
    """Whether something that we drop would change how the picture looks."""
    profile = image.info.get("icc_profile")
    return image.mode == "CMYK" or _turn(image) is not None or bool(profile and not _is_srgb(profile))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What sets it upright."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF, of which Pillow raises many kinds, turns nothing
        return None


def _is_srgb(profile: bytes) -> bool:
    try:
        return "srgb" in ImageCms.getProfileDescription(io.BytesIO(profile)).lower()
    except ImageCms.PyCMSError:
        return True  # nobody can apply a broken profile


def _plain(image: Image.Image, turn: Image.Transpose | None, profile: bytes | None) -> Image.Image:
    """Upright RGB or RGBA with 8 bits a channel in sRGB, and nothing beside the pixels."""
    upright = image if turn is None else image.transpose(turn)
    plain = _to_rgb(_to_srgb(_straight(upright), profile))
    if plain.mode == "RGBA" and plain.getchannel("A").getextrema() == (255, 255):  # transparency that says nothing
        plain = plain.convert("RGB")
    plain.info.clear()
    return plain


def _straight(image: Image.Image) -> Image.Image:
    """RGB, RGBA or CMYK with 8 bits a channel."""
    image = _to_8_bit(image)
    return image if image.mode == "CMYK" else _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Itself where it is so already: a copy of 40 megapixels is another 160 MB."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its upper byte: `convert` would cut it off at white. Colour of 16 bits arrives as 8 already."""
    if image.mode == "F":
        raise BadImage(f"This picture has a number format for science. {ADVICE}")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return image.convert("I").point([value >> 8 for value in range(2**16)], "L")
    return image


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours that the profile meant. One that is broken, or for another kind of picture, means nothing."""
    if not profile or _is_srgb(profile):
        return image
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=target) or image
    except (ImageCms.PyCMSError, OSError):
        return image


def _drawn(image: Image.Image, *, lossless: bool, quality: int, max_bytes: int) -> Picture:
    """The picture by our encoder: as JPEG where PNG gets too long and there is no transparency, smaller until it fits."""
    data = b""
    for form in _forms(image, lossless=lossless):
        data = _encoded(image, form, **_encoder_options(form, quality))
        if len(data) <= max_bytes:
            return _picture(data, form, image.size)
    smaller = _scaled(image, 0.95 * (max_bytes / len(data)) ** 0.5)
    return _drawn(smaller, lossless=False, quality=quality, max_bytes=max_bytes)


def _forms(image: Image.Image, *, lossless: bool) -> tuple[str, ...]:
    if image.mode == "RGBA":
        return ("PNG",)
    return ("PNG", "JPEG") if lossless else ("JPEG",)


def _encoder_options(form: str, quality: int) -> dict[str, Any]:
    if form == "PNG":
        return {"compress_level": PNG_COMPRESS_LEVEL}
    return {"quality": quality, "subsampling": 0, "comment": b""}


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    if scale == 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options, **_NO_METADATA)
    return file.getvalue()


# --- the child -------------------------------------------------------------------------------------------------------
#
# Decoders are C code that reads strangers' bytes. They run in up to CHILDREN_MAX long-lived processes with bounded memory
# and time, no files to write and none of our environment's secrets. One message each way: two lengths, a JSON head, bytes.
# A child ends when its standard input does, so also when we were killed.

CHILDREN_MAX = 2
CHILD_TIMEOUT_S = 20.0
CHILD_MEMORY_MAX_BYTES = 2**30
CHILD_KEEP_BYTES = 300 * 2**20  # one that once grew beyond is replaced, so that its memory goes back
HEAD_MAX_BYTES = 2**16
BODY_MAX_BYTES = 4 * RESULT_MAX_BYTES

UNSAFE = (
    f"This picture could not be read safely. Save it again with another program, or {ADVICE[0].lower()}{ADVICE[1:]}"
)

TASKS: dict[str, Callable[[bytes], dict[int, Picture]]] = {
    "clean_upload": lambda source: {0: clean_upload(source)},
    "clean_result": lambda source: {0: clean_result(source)},
    "thumbnails": lambda source: thumbnails(source),
    "upload": _upload_and_thumbnail,
    "shrink": _shrunk_and_thumbnail,
    "result": _result_and_thumbnails,
    **{form: lambda source, form=form: {0: converted(source, form)} for form in RESULT_FORMATS},  # type: ignore[misc]
}


def in_child(function_name: str, data: bytes, timeout_s: float = CHILD_TIMEOUT_S) -> Picture | dict[int, Picture]:
    """`clean_upload`, `clean_result` or `thumbnails` in a child: the same answer, the same BadImage."""
    pictures = _children.ask(function_name, data, timeout_s)
    return pictures.get(0, pictures)


def save_upload(data: bytes, *, shrinks: bool = False) -> tuple[Picture, dict[int, Picture]]:
    """A member's reference and its small thumbnail, by width in px. `shrinks`: it may be longer before than after."""
    pictures = _children.ask("shrink" if shrinks else "upload", data, CHILD_TIMEOUT_S)
    return pictures.pop(0), pictures


def save_result(data: bytes) -> tuple[Picture, dict[int, Picture]]:
    """A provider's result and its thumbnails, by width in px."""
    pictures = _children.ask("result", data, CHILD_TIMEOUT_S)
    return pictures.pop(0), pictures


def convert(data: bytes, form: str) -> Picture:
    """One of our own pictures as JPEG, PNG or WEBP."""
    return _children.ask(form, data, CHILD_TIMEOUT_S)[0]


class NoAnswer(BadImage):
    """The child died or took too long, twice: the picture may be made to do that, or our machine is at fault."""


class _ChildDied(Exception):
    """No answer: killed, out of memory, out of time, or talking nonsense."""


def _send(stream: IO[bytes], head: dict[str, Any], *bodies: bytes) -> None:
    encoded = json.dumps(head).encode()
    stream.write(struct.pack(">II", len(encoded), sum(map(len, bodies))) + encoded)
    for body in bodies:
        stream.write(body)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    head_bytes, body_bytes = struct.unpack(">II", _read_exactly(stream, 8))
    if head_bytes > HEAD_MAX_BYTES or body_bytes > BODY_MAX_BYTES:
        raise EOFError("a message beyond all limits")
    return json.loads(_read_exactly(stream, head_bytes)), _read_exactly(stream, body_bytes)


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other side has gone")
    return data


class _Child:
    def __init__(self) -> None:
        root = Path(__file__).resolve().parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flux2web.imaging"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libtiff and others chat there
            cwd=root,
            env={"PYTHONPATH": str(root), "PATH": os.defpath, "MALLOC_ARENA_MAX": "1"},
            start_new_session=True,  # a Ctrl-C at the terminal lets the work in hand be finished
        )
        self._stdin, self._stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, task: str, data: bytes, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        killer = threading.Timer(timeout_s, self._process.kill)
        killer.start()
        try:
            _send(self._stdin, {"task": task, "cpu_s": timeout_s}, data)
            return _receive(self._stdout)
        except (OSError, EOFError, ValueError) as problem:
            raise _ChildDied(str(problem)) from None
        finally:
            killer.cancel()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stdout.close()
        with contextlib.suppress(OSError):  # what was not sent any more
            self._stdin.close()


class _Children:
    """Up to `size` children, made when needed and kept for the next picture."""

    def __init__(self, size: int) -> None:
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def ask(self, task: str, data: bytes, timeout_s: float) -> dict[int, Picture]:
        """One that died in time gets a second chance with a new child: it may have been killed from outside."""
        give_up = time.monotonic() + timeout_s
        for _ in range(2):
            try:
                return self._ask_one(task, data, timeout_s)
            except _ChildDied:
                if time.monotonic() >= give_up:
                    break
        raise NoAnswer(UNSAFE)

    def _ask_one(self, task: str, data: bytes, timeout_s: float) -> dict[int, Picture]:
        with self._free:
            child = self._take()
            try:
                head, body = child.ask(task, data, timeout_s)
            except BaseException:
                child.end()
                raise
            self._put_back(child, retired=bool(head.get("retired", True)))
        if "bad" in head:
            raise BadImage(head["bad"])
        return _unpacked(head["pictures"], body)

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.is_alive():
                    return child
                child.end()
        return _Child()

    def _put_back(self, child: _Child, *, retired: bool) -> None:
        if retired:
            child.end()
            return
        with self._lock:
            self._idle.append(child)

    def end(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop().end()


def _packed(pictures: dict[int, Picture]) -> list[list[Any]]:
    return [[key, len(p.data), p.mime, p.ext, p.width_px, p.height_px, p.sha256] for key, p in pictures.items()]


def _unpacked(rows: list[list[Any]], body: bytes) -> dict[int, Picture]:
    pictures, position = {}, 0
    for key, length, *described in rows:
        pictures[key] = Picture(body[position : position + length], *described)
        position += length
    return pictures


_children = _Children(CHILDREN_MAX)
atexit.register(_children.end)


def main() -> None:
    """The child: one picture after the other, until nobody asks any more."""
    _limit_this_process()
    while True:
        try:
            request, data = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _limit_cpu(request["cpu_s"])
        _answer(request["task"], data)


def _answer(task: str, data: bytes) -> None:
    try:
        pictures = TASKS[task](data)
    except BadImage as bad:
        _send(sys.stdout.buffer, {"bad": str(bad), "retired": _has_grown()})
    else:
        head = {"pictures": _packed(pictures), "retired": _has_grown()}
        _send(sys.stdout.buffer, head, *(picture.data for picture in pictures.values()))


def _limit_this_process() -> None:
    if resource is None:
        return
    os.nice(10)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread's stack and heap count as memory
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY_MAX_BYTES, CHILD_MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_cpu(seconds: float) -> None:
    """The limit counts a process's whole life, so each picture's share lies on top of what was used."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))


def _has_grown() -> bool:
    """Whether this process was once too large. Not by getrusage: its peak counts what the parent was when it forked."""
    status = Path("/proc/self/status")
    peak_kb = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return peak_kb is not None and int(peak_kb[1]) * 1024 > CHILD_KEEP_BYTES


if __name__ == "__main__":
    main()
