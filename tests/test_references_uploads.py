"""Every kind of file that somebody may upload, made here: each ends as a clean picture of ours or with a clear refusal, soon,
in bounded memory, in a process that survives it."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from flux2web import imaging

from .pictures import HUGE_WEBP

SECONDS_MAX, PEAK_MAX_BYTES = 3.0, 300 * 2**20
PHONE = (4032, 3024)  # what a phone's camera makes
CARGO = b"GPS 52.5163 N, by Ana"
UPRIGHT = {  # what a camera stored so that the orientation in its EXIF sets it right
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def drawing(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Red top left, green top right, blue below: no turn of it looks like another."""
    image = Image.new("RGB", size, (20, 20, 220))
    image.paste((220, 20, 20), (0, 0, size[0] // 2, size[1] // 2))
    image.paste((20, 220, 20), (size[0] // 2, 0, size[0], size[1] // 2))
    return image


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation: int = 1) -> bytes:
    """A camera's notes, with the place."""
    tags = Image.Exif()
    tags[0x010E], tags[0x0112] = CARGO.decode(), orientation
    place = tags.get_ifd(0x8825)
    place[1], place[2] = "N", (52.0, 30.0, 59.0)
    return tags.tobytes()


def turned(orientation: int, form: str = "JPEG") -> bytes:
    turn = UPRIGHT[orientation]
    stored = drawing() if turn is None else drawing().transpose(turn)
    return saved(stored, form, exif=exif(orientation))


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise(size, spread) for spread in (20, 60, 100)])


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, packed: bytes = b"", extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (640, 480), shade) for shade in ("yellow", "black")]
    return saved(drawing(), form, save_all=True, append_images=frames)


def pages() -> bytes:
    return saved(drawing(), "TIFF", save_all=True, append_images=[Image.new("RGB", (640, 480), "yellow")])


def commented() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", CARGO.decode())
    return saved(drawing(), "PNG", pnginfo=info, exif=exif(1))


def claims(data: bytes, name: bytes, size: int) -> bytes:
    """The same HEIC or AVIF file whose image spatial extents (ispe) tell another size."""
    at = data.index(name) + 8
    return data[:at] + struct.pack(">II", size, size) + data[at + 8 :]


def at(megapixels: float) -> tuple[int, int]:
    """4 by 3, and not one row more."""
    width = math.isqrt(round(megapixels * 10**6 * 4 / 3))
    return width, int(megapixels * 10**6) // width


def see_through(size: tuple[int, int]) -> Image.Image:
    image = drawing(size).convert("RGBA")
    image.paste((0, 0, 0, 100), (0, 0, 9, 9))
    return image


def on_its_side(size: tuple[int, int], form: str, **options) -> bytes:
    return saved(drawing(size).transpose(Image.Transpose.ROTATE_90), form, exif=exif(6), **options)


def slow_jpeg(size: tuple[int, int], mode: str = "RGB") -> bytes:
    return saved(drawing(size).convert(mode), "JPEG", progressive=True, subsampling=0)


def one_strip(image: Image.Image) -> bytes:
    return saved(image, "TIFF", compression="tiff_lzw", strip_size=2**30)


def heic(image: Image.Image) -> bytes:
    return saved(image, "HEIF", quality=50, chroma=444, enc_params={"preset": "ultrafast"})


def deep(size: tuple[int, int], *, colour: int, sample: bytes) -> bytes:
    """A PNG of one colour with 16 bits a channel."""
    return png(*size, depth=16, colour=colour, packed=zlib.compress((b"\0" + sample * size[0]) * size[1], 1))


ALL, IPHONE = at(40), (5712, 4284)
LARGEST: dict[str, Callable[[], bytes]] = {  # as many pixels as we take of each kind
    "JPEG of 40 megapixels": lambda: saved(drawing(ALL), "JPEG", quality=80),
    "JPEG of 40 megapixels on its side": lambda: on_its_side(ALL, "JPEG"),
    "CMYK JPEG of 40 megapixels": lambda: saved(drawing(ALL).convert("CMYK"), "JPEG"),
    "CMYK JPEG of 16 megapixels on its side": lambda: saved(
        drawing(at(16)).convert("CMYK").transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif(6)
    ),
    "progressive JPEG of 28 megapixels": lambda: slow_jpeg(at(28)),
    "progressive CMYK JPEG of 28 megapixels": lambda: slow_jpeg(at(28), "CMYK"),
    "PNG of 40 megapixels": lambda: saved(drawing(ALL), "PNG", compress_level=1),
    "PNG of 40 megapixels on its side": lambda: on_its_side(ALL, "PNG", compress_level=1),
    "transparent PNG of 40 megapixels": lambda: saved(see_through(ALL), "PNG", compress_level=1),
    "transparent PNG of 16 megapixels on its side": lambda: saved(
        see_through(at(16)).transpose(Image.Transpose.ROTATE_90), "PNG", compress_level=1, exif=exif(6)
    ),
    "palette PNG of 40 megapixels": lambda: saved(drawing(ALL).convert("P"), "PNG", compress_level=1, transparency=9),
    "16 bit colour PNG of 40 megapixels": lambda: deep(ALL, colour=2, sample=b"\x40\x00\x80\x00\xc0\x00"),
    "16 bit grey PNG of 40 megapixels": lambda: deep(ALL, colour=0, sample=b"\x40\x00"),
    "GIF of 40 megapixels": lambda: saved(drawing(ALL).convert("P"), "GIF"),
    "WebP of 14 megapixels": lambda: saved(drawing(at(14)), "WEBP", method=0),
    "WebP of 14 megapixels on its side": lambda: on_its_side(at(14), "WEBP", method=0),
    "lossless transparent WebP of 14 megapixels": lambda: saved(
        see_through(at(14)), "WEBP", lossless=True, method=0, quality=0
    ),
    "AVIF of 14 megapixels": lambda: saved(drawing(at(14)), "AVIF", speed=10),
    "transparent AVIF of 14 megapixels": lambda: saved(see_through(at(14)), "AVIF", speed=10, subsampling="4:4:4"),
    "HEIC of 24 megapixels": lambda: heic(drawing(IPHONE)),
    "transparent HEIC of 16 megapixels": lambda: heic(see_through(at(16))),
    "TIFF of 20 megapixels in one strip": lambda: one_strip(drawing(at(20))),
    "transparent TIFF of 20 megapixels in one strip": lambda: one_strip(see_through(at(20))),
}
SIXTEEN = zlib.compress((b"\0" + b"\x40\x00\x80\x00\xc0\x00" * 640) * 480)
TAKEN: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(drawing(), "JPEG"),
    "progressive JPEG": lambda: saved(drawing(), "JPEG", progressive=True),
    "grey JPEG": lambda: saved(drawing().convert("L"), "JPEG"),
    "CMYK JPEG": lambda: saved(drawing().convert("CMYK"), "JPEG"),
    "CMYK TIFF": lambda: saved(drawing().convert("CMYK"), "TIFF"),
    "PNG": lambda: saved(drawing(), "PNG"),
    "PNG with comments": commented,
    "palette PNG": lambda: saved(drawing().convert("P"), "PNG"),
    "palette PNG with transparency": lambda: saved(drawing().convert("P"), "PNG", transparency=0),
    "black and white PNG": lambda: saved(drawing().convert("1"), "PNG"),
    "16 bit colour PNG": lambda: png(640, 480, depth=16, packed=SIXTEEN),
    "16 bit grey PNG": lambda: saved(Image.new("I;16", (640, 480), 0x8000), "PNG"),
    "16 bit TIFF": lambda: saved(Image.new("I;16", (640, 480), 0x8000), "TIFF"),
    "transparent PNG": lambda: saved(drawing().convert("RGBA").resize((640, 480)), "PNG"),
    "WebP": lambda: saved(drawing(), "WEBP"),
    "lossless WebP": lambda: saved(drawing(), "WEBP", lossless=True),
    "GIF": lambda: saved(drawing().convert("P"), "GIF"),
    "BMP": lambda: saved(drawing(), "BMP"),
    "TIFF": lambda: saved(drawing(), "TIFF", compression="tiff_lzw"),
    "TIFF of two pages": pages,
    "AVIF": lambda: saved(drawing(), "AVIF", exif=exif()),
    "HEIC": lambda: saved(drawing(), "HEIF", exif=exif()),
    "animated GIF": lambda: animated("GIF"),
    "animated PNG": lambda: animated("PNG"),
    "animated WebP": lambda: animated("WEBP"),
    "animated AVIF": lambda: animated("AVIF"),
    "HEIC of two pictures": lambda: animated("HEIF"),
    **{f"orientation {number}": lambda number=number: turned(number) for number in UPRIGHT},
    **{f"WebP, orientation {number}": lambda number=number: turned(number, "WEBP") for number in (3, 6)},
    **{f"HEIC, orientation {number}": lambda number=number: turned(number, "HEIF") for number in UPRIGHT},
    "PNG of 20 pixels and 1 GB of zeros": lambda: png(5, 4, packed=zlib.compress(bytes(2**30), 1)),
    "a phone's JPEG": lambda: saved(drawing(PHONE), "JPEG", quality=90, exif=exif(1)),
    "a phone's HEIC": lambda: saved(drawing(PHONE), "HEIF", quality=50, exif=exif(1)),
    "a phone's screen as PNG": lambda: saved(drawing(PHONE), "PNG", compress_level=1),
    "a phone's WebP": lambda: saved(drawing(PHONE), "WEBP", method=0),
    "a phone's AVIF": lambda: saved(drawing(PHONE), "AVIF", speed=10),
    **LARGEST,
}
GREY = {
    "16 bit colour PNG of 40 megapixels",
    "16 bit grey PNG of 40 megapixels",
    "16 bit grey PNG",
    "16 bit TIFF",
    "16 bit colour PNG",
    "grey JPEG",
    "black and white PNG",
}
SHADES_LOST = {"palette PNG with transparency", "PNG of 20 pixels and 1 GB of zeros"}
WHOLE = {"JPEG": {}, "PNG": {}, "WEBP": {}, "HEIF": {}, "AVIF": {}, "GIF": {}, "TIFF": {}, "BMP": {}}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty"),
    "text": (lambda: b"Dear diary, this is no picture.\n", "text"),
    "a web page": (lambda: b"<!DOCTYPE html><html><script>1</script>", "web page"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "SVG"),
    "PDF": (lambda: b"%PDF-1.7\n", "PDF"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%\xe2\xe3", "no picture"),
    "a ZIP archive": (lambda: b"PK\x03\x04" + bytes(400), "ZIP"),
    "a video": (lambda: b"\0\0\0\x18ftypisom" + bytes(400), "video"),
    "a program": (lambda: b"\x7fELF" + bytes(400), "no picture"),
    "no more of a PNG than its signature": (lambda: b"\x89PNG\r\n\x1a\n" + b"x" * 500, "damaged"),
    "numbers for science": (lambda: saved(Image.new("F", (64, 64), 0.5), "TIFF"), "science"),
    "11 MB": (lambda: saved(drawing(), "PNG") + bytes(11 * 2**20), "10 MB"),
    "WebP of 40 bytes and 268 megapixels": (lambda: HUGE_WEBP, "megapixels"),
    "PNG of 900 megapixels": (lambda: png(30_000, 30_000, packed=zlib.compress(bytes(2**20))), "megapixels"),
    "PNG with a text of 128 MB": (
        lambda: png(
            4,
            4,
            packed=zlib.compress((b"\0" + b"abc" * 4) * 4),
            extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**27))),
        ),
        ".",
    ),
    "JPEG of 42 megapixels": (lambda: saved(Image.new("L", (6_500, 6_500)), "JPEG"), "megapixels"),
    "WebP of 15 megapixels": (lambda: saved(drawing(at(15)), "WEBP", method=0), "A WebP may have 14 megapixels"),
    "AVIF of 15 megapixels": (lambda: saved(drawing(at(15)), "AVIF", speed=10), "An AVIF may have 14 megapixels"),
    "HEIC of 26 megapixels": (lambda: claims(saved(drawing(), "HEIF"), b"ispe", 5100), "A HEIC may have 25 megapixels"),
    "transparent HEIC of 17 megapixels": (
        lambda: claims(saved(see_through((640, 480)), "HEIF"), b"ispe", 4124),
        "A HEIC with transparency may have 16 megapixels",
    ),
    "TIFF of 21 megapixels": (lambda: one_strip(drawing(at(21))), "A TIFF may have 20 megapixels"),
    "progressive JPEG of 29 megapixels": (lambda: slow_jpeg(at(29)), "Save it as a baseline JPEG"),
    "GIF of 4 gigapixels": (lambda: b"GIF89a\xff\xff\xff\xff\0\0\0;", "megapixels"),
    "TIFF of 42 megapixels": (
        lambda: saved(Image.new("1", (6_500, 6_500)), "TIFF", compression="group4"),
        "megapixels",
    ),
    "HEIC that says 20,000 by 20,000": (lambda: claims(saved(drawing(), "HEIF"), b"ispe", 20_000), "megapixels"),
    "HEIC that says 2,000,000,000": (lambda: claims(saved(drawing(), "HEIF"), b"ispe", 2_000_000_000), "."),
    "AVIF that says 20,000 by 20,000": (lambda: claims(saved(drawing(), "AVIF"), b"ispe", 20_000), "."),
    "the beginning of a HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0", "damaged"),
    **{f"{form} cut in half": (lambda form=form: half(form), "damaged") for form in WHOLE},
    **{f"{form} without its last bytes": (lambda form=form: half(form, missing=9), "damaged") for form in WHOLE},
}
del REFUSED["GIF without its last bytes"]  # its first picture is whole


def half(form: str, missing: int = 0) -> bytes:
    whole = saved(noise((200, 150)), form)
    return whole[: len(whole) - missing if missing else len(whole) // 2]


class Judge:
    """A child of the site's own kind, which tells how large it once was."""

    def __init__(self) -> None:
        self.child = imaging._Child()

    def __call__(self, data: bytes, task: str = "upload") -> tuple[dict, bytes, float]:
        """The answer, and the seconds of computing it took: those of the clock depend on what else the machine does."""
        began = self.computed_s()
        head, body = self.child.ask(task, data, 3 * imaging.CHILD_TIMEOUT_S)
        return head, body, self.computed_s() - began

    def computed_s(self) -> float:
        facts = Path(f"/proc/{self.child.pid}/stat")
        if not facts.exists():
            pytest.skip("this system does not tell what a process computed")
        spent = facts.read_text().rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


@pytest.fixture(scope="module")
def one_judge() -> Iterator[Judge]:
    judge = Judge()
    judge(b"warm")
    yield judge
    judge.child.end()


@pytest.fixture
def judge(one_judge) -> Judge:
    """One for all files, as on the site; how large it once was is forgotten in between."""
    if Path("/proc/self/clear_refs").exists():
        Path(f"/proc/{one_judge.child.pid}/clear_refs").write_text("5")
    return one_judge


def looks_right(image: Image.Image, tolerance: int = 60) -> bool:
    width, height = image.size
    shown = image.convert("RGB")
    return all(
        abs(a - b) <= tolerance
        for x, y, colour in ((0.2, 0.2, (220, 20, 20)), (0.8, 0.2, (20, 220, 20)), (0.5, 0.8, (20, 20, 220)))
        for a, b in zip(shown.getpixel((int(x * width), int(y * height))), colour, strict=True)
    )


@pytest.mark.parametrize("name", TAKEN)
def test_a_picture_becomes_ours_upright_and_bare(judge, name):
    head, body, took_s = judge(TAKEN[name]())
    picture, thumbnail = imaging._unpacked(head["pictures"], body).values()
    with Image.open(io.BytesIO(picture.data)) as image:
        image.load()
        assert image.format in ("JPEG", "PNG")
        assert image.mode in ("RGB", "RGBA")
        assert image.width > image.height
        assert not image.getexif()
        assert not {"exif", "xmp", "icc_profile", "comment", "Comment"} & set(image.info)
        assert getattr(image, "n_frames", 1) == 1
        if name not in GREY | SHADES_LOST:
            assert looks_right(image)
    assert CARGO not in picture.data
    assert CARGO not in thumbnail.data
    assert len(picture.data) <= imaging.UPLOAD_MAX_BYTES
    assert thumbnail.width_px <= 320
    assert took_s <= SECONDS_MAX
    assert judge.peak_bytes() <= PEAK_MAX_BYTES


def test_what_is_larger_than_anybody_looks_at_is_kept_at_half_its_size():
    for size, kept in ((at(16), at(16)), ((4621, 3467), (2311, 1734))):
        for form in ("JPEG", "PNG"):
            picture = imaging.clean_upload(saved(drawing(size), form))
            assert (picture.width_px, picture.height_px) == kept


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_is_refused_in_words(judge, name):
    make, word = REFUSED[name]
    head, _, took_s = judge(make())
    assert word in head["bad"]
    assert head["bad"].endswith(".")
    assert took_s <= SECONDS_MAX
    assert judge.peak_bytes() <= PEAK_MAX_BYTES
    assert "pictures" in judge(saved(drawing((64, 48)), "PNG"))[0]  # the same process goes on


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_a_container_cut_anywhere_is_refused(form):
    whole = saved(noise((40, 30)), form)
    assert imaging.clean_upload(whole).width_px == 40
    for length in {*range(0, len(whole), 61), len(whole) - 1}:
        with pytest.raises(imaging.BadImage):
            imaging.clean_upload(whole[:length])


# --- Larger than a reference may be ----------------------------------------------------------------------------------------


def large() -> bytes:
    """A picture of more than 10 MB that no other encoding makes shorter: noise."""
    return saved(noise((2600, 2000)), "PNG", compress_level=1)


def test_what_is_too_long_is_made_smaller_for_who_asks(judge):
    data = large()
    assert len(data) > imaging.UPLOAD_MAX_BYTES
    assert "10 MB" in judge(data)[0]["bad"]
    head, body, took_s = judge(data, "shrink")
    picture = imaging._unpacked(head["pictures"], body)[0]
    assert len(picture.data) <= imaging.UPLOAD_MAX_BYTES
    assert took_s <= SECONDS_MAX
    assert judge.peak_bytes() <= PEAK_MAX_BYTES


def test_a_short_file_is_kept_as_large_as_it_is_all_the_same():
    picture, _ = imaging.save_upload(saved(drawing(), "PNG"), shrinks=True)
    assert (picture.width_px, picture.mime) == (640, "image/png")


def test_beyond_forty_megabytes_nothing_is_made_smaller(judge):
    assert "40 MB" in judge(saved(drawing(), "PNG") + bytes(41 * 2**20), "shrink")[0]["bad"]
