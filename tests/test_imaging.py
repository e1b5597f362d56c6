"""Pictures that are broken, disguised, turned or loaded with cargo. The corpus is made here, by Pillow and by hand."""

import io
import os
import signal
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from flux2web import imaging

CARGO = b"<script>alert(1)</script> GPS 52.5163 N"


# --- making files ----------------------------------------------------------------------------------------------------


def drawing(mode="RGB", size=(64, 48)):
    """Red top left, green top right, blue below: no turn of it looks like another."""
    image = Image.new("RGB", size, (20, 20, 220))
    image.paste((220, 20, 20), (0, 0, size[0] // 2, size[1] // 2))
    image.paste((20, 220, 20), (size[0] // 2, 0, size[0], size[1] // 2))
    return image.convert(mode)


def noise(size):
    return Image.merge("RGB", [Image.effect_noise(size, spread) for spread in (20, 60, 100)])


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def opened(picture):
    image = Image.open(io.BytesIO(picture.data))
    image.load()
    return image


def chunk(name, content, crc=None):
    crc = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def png(width, height, rows, *, depth=8, colour=2, extra=b"", end=True):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    tail = chunk(b"IEND", b"") if end else b""
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + tail


def exif(orientation=None):
    tags = Image.Exif()
    tags[0x010E] = CARGO.decode()
    tags.get_ifd(0x8825)[1] = "N"
    tags.get_ifd(0x8825)[2] = (52.0, 30.0, 59.0)
    if orientation:
        tags[0x0112] = orientation
    return tags.tobytes()


def refused(function, data):
    began = time.monotonic()
    with pytest.raises(imaging.BadImage) as caught:
        function(data)
    assert time.monotonic() - began < 3
    message = str(caught.value)
    assert message.endswith(".")
    return message


BOTH = pytest.mark.parametrize("clean", [imaging.clean_upload, imaging.clean_result])
FORMS = pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])


# --- refused ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"just words, named x.png\n", "text"),
        (b"%PDF-1.7\n...", "PDF"),
        (b'<?xml version="1.0"?><!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!-- -->" * 120 + b"<sv", "text"),
        (b"<!DOCTYPE html><html><script>1</script>", "web page"),
        (b"PK\x03\x04\x14\x00", "ZIP"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00", "video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n\x00", "no picture"),
        (bytes(range(256)), "no picture"),
    ],
)
def test_what_is_no_picture_is_named(clean, data, word):
    assert word in refused(clean, data)


@BOTH
@FORMS
@pytest.mark.parametrize("progressive", [False, True])
def test_cut_anywhere_is_refused(clean, form, progressive):
    options = {"JPEG": {"progressive": progressive}, "WEBP": {"lossless": progressive}}.get(form, {})
    whole = saved(noise((40, 30)), form, **options)
    assert clean(whole).width_px == 40
    for length in {*range(0, len(whole), 97), len(whole) - 1, len(whole) - 2, len(whole) - 12, len(whole) - 13}:
        refused(clean, whole[:length])


@BOTH
def test_png_without_end_is_refused(clean):
    rows = (b"\0" + b"abc" * 4) * 4
    assert clean(png(4, 4, rows)).width_px == 4
    refused(clean, png(4, 4, rows, end=False))


@BOTH
@pytest.mark.parametrize(
    "data",
    [
        png(4, 4, (b"\0" + b"abc" * 4) * 3),  # a row is missing
        png(4, 4, (b"\0" + b"abc" * 4) * 4).replace(b"IDAT", b"IDAT", 1)[:-16] + b"\0\0\0\0" + chunk(b"IEND", b""),
        png(4, 4, (b"\0" + b"abc" * 4) * 4, colour=5),
        png(0, 4, b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["short", "wrong crc", "no such colour", "no width", "nothing but an end", "signature"],
)
def test_broken_png_is_refused(clean, data):
    refused(clean, data)


@BOTH
def test_png_with_a_wrong_checksum_in_its_data_is_refused(clean):
    packed = bytearray(zlib.compress((b"\0" + b"abc" * 4) * 4))
    packed[-1] ^= 1  # zlib's own checksum; the chunk's is right
    whole = png(4, 4, b"")
    start = whole.index(b"IDAT") - 4
    refused(clean, whole[:start] + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b""))


@BOTH
def test_forty_bytes_that_claim_268_megapixels(clean):
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\0\0\0\0"
        + b"\xff\x3f\0" * 2
        + b"VP8L"
        + struct.pack("<I", 2)
        + b"\x2f\0"
    )
    bomb = b"RIFF" + struct.pack("<I", len(body)) + body
    assert len(bomb) == 40
    assert "megapixels" in refused(clean, bomb)


@BOTH
@pytest.mark.parametrize(
    "bomb",
    [
        png(30_000, 30_000, bytes(2**20)),
        png(6_500, 6_500, b""),
        saved(Image.new("1", (6_500, 6_500)), "PNG"),
        saved(Image.new("L", (6_500, 6_500)), "JPEG"),
    ],
    ids=["PNG of 900 MP", "PNG of 42 MP without data", "PNG of 42 MP", "JPEG of 42 MP"],
)
def test_bombs_are_refused_by_their_header(clean, bomb):
    assert "40 megapixels" in refused(clean, bomb)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "AVIF"])
def test_other_bombs_are_refused(form):
    size = (6_500, 6_500) if form != "AVIF" else (6_500, 6_240)
    bomb = saved(Image.new("L" if form != "AVIF" else "RGB", size), form, **({"speed": 10} if form == "AVIF" else {}))
    if len(bomb) < imaging.UPLOAD_MAX_BYTES:
        assert "megapixels" in refused(imaging.clean_upload, bomb)
    else:
        assert "10 MB" in refused(imaging.clean_upload, bomb)


def test_text_bomb_in_a_png_is_harmless():
    bomb = png(4, 4, (b"\0" + b"abc" * 4) * 4, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**27))))
    refused(imaging.clean_upload, bomb)


def test_eleven_megabytes_are_refused():
    data = saved(drawing(), "PNG") + bytes(11 * 2**20)
    assert "10 MB" in refused(imaging.clean_upload, data)
    assert imaging.clean_result(data).width_px == 64
    assert "30 MB" in refused(imaging.clean_result, data + bytes(20 * 2**20))


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "AVIF", "HEIC"])
def test_result_is_one_of_three_formats(form):
    assert form in refused(imaging.clean_result, saved(drawing(), imaging.PILLOW_NAMES.get(form, form)))


def test_what_browsers_cannot_show_is_refused():
    data = saved(drawing(), "JPEG")
    assert "rare" in refused(imaging.clean_result, data.replace(b"\xff\xc0", b"\xff\xc9"))


def test_scientific_numbers_are_refused():
    assert "science" in refused(imaging.clean_upload, saved(Image.new("F", (4, 4), 0.5), "TIFF"))


# --- taken -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "mode", "mime"),
    [
        ("JPEG", "RGB", "image/jpeg"),
        ("JPEG", "L", "image/jpeg"),
        ("JPEG", "CMYK", "image/jpeg"),
        ("PNG", "RGB", "image/png"),
        ("PNG", "RGBA", "image/png"),
        ("PNG", "P", "image/png"),
        ("PNG", "1", "image/png"),
        ("WEBP", "RGB", "image/jpeg"),
        ("GIF", "P", "image/jpeg"),
        ("TIFF", "RGB", "image/jpeg"),
        ("TIFF", "CMYK", "image/jpeg"),
        ("BMP", "RGB", "image/jpeg"),
        ("AVIF", "RGB", "image/jpeg"),
        ("HEIF", "RGB", "image/jpeg"),
    ],
)
def test_upload_becomes_jpeg_or_png(form, mode, mime):
    picture = imaging.clean_upload(saved(drawing(mode), form))
    image = opened(picture)
    assert (picture.mime, picture.ext) == (mime, {"image/jpeg": "jpg", "image/png": "png"}[mime])
    assert (picture.width_px, picture.height_px, image.mode) == (64, 48, "RGB")
    if mode not in ("L", "1"):
        looks_like_the_drawing(image)


def looks_like_the_drawing(image, tolerance=40):
    width, height = image.size
    for x, y, colour in ((0.2, 0.2, (220, 20, 20)), (0.8, 0.2, (20, 220, 20)), (0.5, 0.8, (20, 20, 220))):
        shown = image.convert("RGB").getpixel((int(x * width), int(y * height)))
        assert all(abs(a - b) <= tolerance for a, b in zip(shown, colour, strict=True)), (shown, colour)


@FORMS
def test_result_keeps_its_pixels(form):
    options = {"JPEG": {"quality": 90, "progressive": True}, "WEBP": {"quality": 90}}.get(form, {})
    source = saved(noise((200, 100)), form, **options)
    picture = imaging.clean_result(source)
    assert opened(picture).tobytes() == Image.open(io.BytesIO(source)).convert("RGB").tobytes()
    assert (picture.mime, len(picture.sha256)) == (f"image/{form.lower()}", 64)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_kept(form):
    image = drawing("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    for lossless in ({}, {"lossless": True}) if form == "WEBP" else ({},):
        source = saved(image, form, **lossless)
        for clean in (imaging.clean_upload, imaging.clean_result):
            kept = opened(clean(source))
            assert kept.mode == "RGBA"
            assert kept.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_palette_with_transparency_becomes_rgba():
    source = saved(drawing("P"), "PNG", transparency=0)
    assert opened(imaging.clean_upload(source)).mode in ("RGBA", "RGB")
    gif = Image.new("P", (4, 4), 1)
    gif.putpixel((0, 0), 0)
    gif.putpalette([255, 0, 0, 0, 255, 0])
    picture = imaging.clean_upload(saved(gif, "GIF", transparency=0))
    assert picture.mime == "image/png"
    assert opened(picture).getpixel((0, 0))[3] == 0
    assert opened(picture).getpixel((3, 3)) == (0, 255, 0, 255)


def test_sixteen_bits_become_eight_without_going_white():
    grey = saved(Image.new("I;16", (8, 8), 0x8000), "PNG")
    assert opened(imaging.clean_upload(grey)).getpixel((0, 0)) == (128, 128, 128)
    colour = png(2, 2, (b"\0" + b"\x40\x00\x80\x00\xc0\x00" * 2) * 2, depth=16)
    assert opened(imaging.clean_upload(colour)).getpixel((0, 0)) == (64, 128, 192)
    assert opened(imaging.clean_result(colour)).getpixel((0, 0)) == (64, 128, 192)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 8), (33, 31)])
def test_every_build_of_png_is_measured_right(mode, size, interlaced):
    source = saved(Image.new(mode, size), "PNG")
    if interlaced:  # Pillow writes none: the same pixels, all zero, in seven passes
        header = source[16:28] + b"\x01"
        rows = bytes(imaging._png_data_bytes(header))
        palette = chunk(b"PLTE", bytes(768)) if mode == "P" else b""
        source = (
            source[:8] + chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        )
    assert (imaging.clean_result(source).width_px, imaging.clean_result(source).height_px) == size


def test_result_with_more_data_than_pixels_is_drawn_anew():
    rows = (b"\0" + b"abc" * 4) * 4
    picture = imaging.clean_result(png(4, 4, rows + CARGO * 100))
    assert opened(picture).getpixel((0, 0)) == tuple(b"abc")
    assert picture.data == imaging.clean_result(picture.data).data


# --- upright and bare ------------------------------------------------------------------------------------------------

_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@BOTH
@FORMS
@pytest.mark.parametrize("orientation", range(1, 9))
def test_comes_out_upright(clean, form, orientation):
    turn = _TURNS[orientation]
    stored = drawing() if turn is None else drawing().transpose(turn)
    picture = clean(saved(stored, form, exif=exif(orientation)))
    assert (picture.width_px, picture.height_px) == (64, 48)
    looks_like_the_drawing(opened(picture))
    assert CARGO not in picture.data


def loaded_with_cargo(form):
    """A picture with everything that can ride on one."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", CARGO.decode())
    text.add_itxt("XML:com.adobe.xmp", CARGO.decode())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {
        "JPEG": {"comment": CARGO, "xmp": CARGO, "dpi": (300, 300)},
        "PNG": {"pnginfo": text, "dpi": (300, 300)},
        "WEBP": {"xmp": CARGO},
    }[form]
    whole = saved(drawing(), form, exif=exif(), icc_profile=profile, **options)
    assert CARGO in whole
    return whole + b"PK\x03\x04" + CARGO


@BOTH
@FORMS
def test_nothing_rides_on_a_picture(clean, form):
    picture = clean(loaded_with_cargo(form))
    assert not any(
        word in picture.data for word in (CARGO, b"PK\x03\x04", b"Exif", b"EXIF", b"ICC", b"sRGB", b"XMP", b"http")
    )
    image = opened(picture)
    assert not {"exif", "icc_profile", "xmp", "comment", "Comment", "XML:com.adobe.xmp", "dpi"} & set(image.info)
    assert not image.getexif()
    looks_like_the_drawing(image)


def test_profile_of_another_colour_space_is_applied(tmp_path):
    """A profile with red and green swapped: who ignores it shows the wrong colours."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped = bytes(swapped).replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "ours".encode("utf-16-be")).replace(b"sRGB", b"ours")
    red, green, blue = drawing().split()
    source = saved(Image.merge("RGB", (green, red, blue)), "PNG", icc_profile=swapped)
    for clean in (imaging.clean_upload, imaging.clean_result):
        looks_like_the_drawing(opened(clean(source)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@BOTH
@FORMS
@pytest.mark.parametrize("rubbish", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0" + bytes(20)])
def test_broken_exif_and_profile_cost_nobody_the_picture(clean, form, rubbish):
    assert clean(saved(drawing(), form, exif=rubbish, icc_profile=b"no profile")).width_px == 64


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(form):
    frames = [drawing(), Image.new("RGB", (64, 48), "yellow")]
    source = saved(
        frames[0], form, save_all=True, append_images=frames[1:], **({"quality": 90} if form == "WEBP" else {})
    )
    for clean in [imaging.clean_upload, *([imaging.clean_result] if form != "GIF" else [])]:
        picture = clean(source)
        looks_like_the_drawing(opened(picture))
        assert getattr(opened(picture), "n_frames", 1) == 1
        assert b"acTL" not in picture.data
        assert b"ANIM" not in picture.data


def test_adobe_jpeg_keeps_its_colours():
    """Without its APP14 segment a decoder would take these three channels for YCbCr."""
    source = saved(drawing(), "JPEG", keep_rgb=True)
    assert b"Adobe" in source
    looks_like_the_drawing(opened(imaging.clean_result(source)))


def test_clean_is_clean():
    for form in ("JPEG", "PNG", "WEBP"):
        once = imaging.clean_result(loaded_with_cargo(form))
        assert imaging.clean_result(once.data) == once


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_upload_that_grows_too_long_becomes_jpeg_or_smaller(monkeypatch):
    monkeypatch.setattr(imaging, "UPLOAD_MAX_BYTES", 100_000)
    opaque = Image.effect_noise((280, 280), 80).convert("RGB")  # as PNG of grey short, as PNG of colours long
    picture = imaging.clean_upload(saved(opaque.convert("L"), "PNG"))
    assert (picture.mime, picture.width_px) == ("image/jpeg", 280)
    assert len(picture.data) <= 100_000
    transparent = noise((160, 160))
    transparent.putalpha(200)
    monkeypatch.setattr(imaging, "UPLOAD_MAX_BYTES", len(saved(transparent, "WEBP", quality=80)))
    smaller = imaging.clean_upload(saved(transparent, "WEBP", quality=80))
    assert (smaller.mime, smaller.width_px < 160, opened(smaller).mode) == ("image/png", True, "RGBA")


def test_thumbnails_have_their_widths_and_never_grow():
    wide = imaging.thumbnails(saved(drawing(size=(2000, 1000)), "JPEG"))
    assert {width: (t.width_px, t.height_px, t.mime) for width, t in wide.items()} == {
        320: (320, 160, "image/webp"),
        640: (640, 320, "image/webp"),
    }
    small = imaging.thumbnails(saved(drawing(size=(400, 300)), "PNG"))
    assert {width: t.width_px for width, t in small.items()} == {320: 320, 640: 400}
    looks_like_the_drawing(opened(small[320]))


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (50, 20_000)])
def test_thumbnails_of_odd_shapes(size):
    for width, thumbnail in imaging.thumbnails(saved(Image.new("RGB", size), "PNG")).items():
        assert 1 <= thumbnail.width_px <= width
        assert 1 <= thumbnail.height_px <= 16_383


# --- the child -------------------------------------------------------------------------------------------------------


@pytest.fixture
def children(monkeypatch):
    children = imaging._Children(imaging.CHILDREN_MAX)
    monkeypatch.setattr(imaging, "_children", children)
    yield children
    children.end()


def idle_pids(children):
    return [child.pid for child in children._idle]


def test_child_gives_what_the_function_gives(children):
    source = saved(noise((700, 500)), "JPEG", exif=exif(6))
    assert imaging.in_child("clean_upload", source) == imaging.clean_upload(source)
    assert imaging.in_child("clean_result", source) == imaging.clean_result(source)
    assert imaging.in_child("thumbnails", source) == imaging.thumbnails(source)
    picture, small = imaging.save_upload(source)
    assert (picture.width_px, list(small)) == (500, [320])
    picture, small = imaging.save_result(source)
    assert (picture.width_px, list(small)) == (500, [320, 640])
    with pytest.raises(imaging.BadImage, match="PDF"):
        imaging.save_upload(b"%PDF")
    assert len(idle_pids(children)) == 1  # the same one all the time


def test_idle_child_that_was_killed_is_replaced(children):
    imaging.save_upload(saved(drawing(), "PNG"))
    (first,) = idle_pids(children)
    os.kill(first, signal.SIGKILL)
    assert imaging.save_upload(saved(drawing(), "PNG"))[0].width_px == 64
    assert first not in idle_pids(children)


def test_child_killed_at_work_is_replaced_and_asked_again(children):
    imaging.save_upload(saved(drawing(), "PNG"))
    (first,) = idle_pids(children)
    os.kill(first, signal.SIGSTOP)  # it takes the next picture and does nothing
    threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()
    assert imaging.save_upload(saved(drawing(), "PNG"))[0].width_px == 64


def test_child_that_takes_too_long_is_killed(children):
    imaging.save_upload(saved(drawing(), "PNG"))
    (first,) = idle_pids(children)
    os.kill(first, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(imaging.BadImage, match="safely"):
        imaging.in_child("clean_upload", saved(drawing(), "PNG"), timeout_s=0.3)
    assert time.monotonic() - began < 1
    assert idle_pids(children) == []
    assert not Path(f"/proc/{first}").exists()
    assert imaging.save_upload(saved(drawing(), "PNG"))[0].width_px == 64


def test_picture_that_kills_every_child_is_bad(children, monkeypatch):
    """As a decoder's bug would: here the child is a program that ends as soon as it is asked."""
    monkeypatch.setattr(imaging.sys, "executable", "/bin/false")
    with pytest.raises(imaging.BadImage, match="safely"):
        imaging.save_upload(saved(drawing(), "PNG"))


def test_child_that_grew_is_replaced(children):
    big = saved(Image.new("RGB", (6_300, 6_300), "red"), "WEBP", method=0)  # of uploads we take smaller ones
    picture, _ = imaging.save_result(big)
    assert picture.width_px == 6_300
    assert idle_pids(children) == []


def test_no_more_children_than_allowed(children):
    source, pictures = saved(noise((300, 300)), "PNG"), []
    threads = [threading.Thread(target=lambda: pictures.append(imaging.save_upload(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pictures) == 8
    assert len(idle_pids(children)) <= imaging.CHILDREN_MAX


def test_child_knows_no_secret_and_ends_with_its_parent(children, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "canary")
    imaging.save_upload(saved(drawing(), "PNG"))
    child = children._idle[0]
    assert b"canary" not in Path(f"/proc/{child.pid}/environ").read_bytes()
    child._stdin.close()  # as the system does when the parent dies
    assert child._process.wait(3) == 0


def test_child_is_limited(children):
    imaging.save_upload(saved(drawing(), "PNG"))
    (pid,) = idle_pids(children)
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert str(imaging.CHILD_MEMORY_MAX_BYTES) in limits
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 10


def test_module_needs_no_django():
    program = "import sys, flux2web.imaging; sys.exit('django' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([imaging.sys.executable, "-c", program], check=False).returncode == 0


# --- copies to take away ---------------------------------------------------------------------------------------------

WORDS = {"prompt": 'Owl & <b>"moon"</b>\x00\ud800 🦉', "seed": "7", "provider": ""}


def in_file(picture):
    """The XMP that Pillow finds in it."""
    info = opened(picture).info
    return info["xmp"] if "xmp" in info else info["XML:com.adobe.xmp"].encode()


@pytest.mark.parametrize("form", imaging.RESULT_FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("target", imaging.RESULT_FORMATS)
def test_copy_in_another_format_says_its_words_and_keeps_its_pixels(form, mode, target):
    if (form, mode) == ("JPEG", "RGBA"):
        pytest.skip("no JPEG has transparency")
    image = drawing(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (0, 0, 0, 0))
    kept = imaging.clean_result(saved(image, form))
    copy = imaging.converted(kept.data, target)
    worded = imaging.with_words(copy, WORDS)
    assert (copy.mime, opened(copy).size) == (imaging.MIMES[target], (64, 48))
    assert opened(copy).tobytes() == opened(worded).tobytes()
    assert opened(worded).mode == opened(copy).mode == ("RGB" if target == "JPEG" else mode)
    assert b'Owl &amp; &lt;b&gt;"moon"&lt;/b&gt; \xf0\x9f\xa6\x89' in in_file(worded)
    assert b"<flux2web:seed>7<" in in_file(worded)
    assert b"flux2web:provider" not in in_file(worded)
    assert imaging.clean_result(worded.data).data == imaging.clean_result(copy.data).data


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_of_each_kind_takes_words(mode, options):
    image = drawing(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (0, 0, 0, 0))
    kept = imaging.clean_result(saved(image, "WEBP", **options))
    worded = imaging.with_words(kept, WORDS)
    assert opened(worded).tobytes() == opened(kept).tobytes()
    assert b"Owl" in in_file(worded)


def test_jpeg_without_transparency_is_white_where_it_was():
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    copy = imaging.converted(imaging.clean_result(saved(image, "PNG")).data, "JPEG")
    assert opened(copy).getpixel((8, 8)) == (255, 255, 255)


def test_jpeg_that_has_no_jfif_takes_words_too():
    data = saved(drawing(), "JPEG")
    bare = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    picture = imaging._picture(bare, "JPEG", (64, 48))
    assert b"Owl" in in_file(imaging.with_words(picture, WORDS))


def test_words_that_are_too_long_are_cut():
    picture = imaging.clean_result(saved(drawing(), "JPEG"))
    worded = imaging.with_words(picture, {"prompt": "&" * 50_000, "seed": "7"})
    assert len(in_file(worded)) <= imaging.XMP_MAX_BYTES
    assert b"<flux2web:seed>7<" in in_file(worded)


def test_what_is_too_long_for_webp_is_refused():
    with pytest.raises(imaging.BadImage, match="too long for WebP"):
        imaging.converted(saved(Image.new("RGB", (4, imaging.WEBP_HEIGHT_MAX_PX + 1)), "PNG"), "WEBP")


def test_copy_is_made_in_a_child():
    assert imaging.convert(saved(drawing(), "PNG"), "WEBP").mime == "image/webp"
    with pytest.raises(imaging.BadImage):
        imaging.convert(b"Dear diary", "PNG")
