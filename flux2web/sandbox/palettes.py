"""Colours for a drawing: by a word of the prompt, by chance, or out of a reference."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from random import Random

from PIL import Image

from .brush import Colour, light, mix


def rgb(text: str) -> tuple[Colour, ...]:
    """'f00 ...' as written in the table below: six digits each."""
    return tuple((int(w[0:2], 16), int(w[2:4], 16), int(w[4:6], 16)) for w in text.split())


@dataclass(frozen=True)
class Palette:
    sky: tuple[Colour, ...]  # top to horizon
    sun: Colour
    land: tuple[Colour, ...]  # far to near, pale to deep
    accents: tuple[Colour, ...]  # a few that may stand beside each other

    @property
    def haze(self) -> Colour:
        return self.sky[-1]

    @property
    def ink(self) -> Colour:
        """The deepest tone: shadows and thin lines."""
        return mix(self.land[-1], (8, 8, 16), 0.45)

    @property
    def paper(self) -> Colour:
        """The palest tone."""
        return mix(max((*self.sky, self.sun), key=light), (255, 252, 246), 0.45)

    @property
    def is_dark(self) -> bool:
        return light(self.sky[0]) < 0.3


PALETTES = {
    "dawn": Palette(
        rgb("8fa7c9 e8b9b0 fbdcb4"),
        rgb("fff1d2")[0],
        rgb("c99aa4 8f6f93 5a4f7c 2d2f56"),
        rgb("f29b7c f6c667 6f6aa8 f7e3cf"),
    ),
    "day": Palette(
        rgb("5fa8d3 a9d5e5 e8f3ef"),
        rgb("fffbe6")[0],
        rgb("8fbccb 4d8aa5 23617f 0e3550"),
        rgb("f4b860 e4572e 2e86ab f2efe6"),
    ),
    "dusk": Palette(
        rgb("3b3a72 b0628f f7a072 fbd39a"),
        rgb("ffe3b0")[0],
        rgb("a06c9b 6b4f8a 40376d 1d1d45"),
        rgb("f7a072 e05780 5f4b8b fbd39a"),
    ),
    "night": Palette(
        rgb("0b1030 1d2257 4a3f86"),
        rgb("f4efd8")[0],
        rgb("3d3a78 272a5c 171a40 0a0c22"),
        rgb("ffd27a 6fd3e7 c86bd6 f2f0ff"),
    ),
    "mint": Palette(
        rgb("bfe6da d9f2e6 f3faf1"),
        rgb("fffbe0")[0],
        rgb("9ccfbd 5fa596 2f7470 12403f"),
        rgb("ff9f7f 2f7470 f6d98b f3faf1"),
    ),
    "forest": Palette(
        rgb("b9cfb0 dbe5c5 f3f0d8"),
        rgb("fff3c2")[0],
        rgb("9db78d 5f8a5f 335c47 142f2a"),
        rgb("e0a84a b6513b 557f57 f3f0d8"),
    ),
    "desert": Palette(
        rgb("f0c9a0 f7dfc0 fdf0dd"),
        rgb("fff2d0")[0],
        rgb("e9a56f cf6f44 97442f 4f2023"),
        rgb("1f7a8c e9a56f 97442f fdf0dd"),
    ),
    "rose": Palette(
        rgb("f3b6c4 f8d3d6 fdeeea"),
        rgb("fff5ea")[0],
        rgb("e59aae bf5f80 842f5b 431537"),
        rgb("842f5b f2c14e e59aae fdeeea"),
    ),
    "ember": Palette(
        rgb("2a1730 7d2a3f d9603b f7b267"),
        rgb("ffe2a0")[0],
        rgb("a8433f 732b3d 431d34 1e0f22"),
        rgb("f7b267 f25c54 7d2a3f ffe9c7"),
    ),
    "snow": Palette(
        rgb("9fb6cf cfdcea f4f6fa"),
        rgb("fffdf3")[0],
        rgb("c9d7e6 93abc6 5a7599 26385a"),
        rgb("e4572e 5a7599 f0c987 f4f6fa"),
    ),
    "linen": Palette(
        rgb("e9e1d3 f1ebe0 faf6ee"),
        rgb("fff8e6")[0],
        rgb("d8c7ae a98f75 6f5b4c 352c2a"),
        rgb("b5543c 3e5c58 d9a441 faf6ee"),
    ),
    "lagoon": Palette(
        rgb("0f4c5c 2a9d8f 9fe0cf eaf7e9"),
        rgb("fff6cf")[0],
        rgb("5cb9a8 24837f 12555f 08303c"),
        rgb("ffb703 fb8500 2a9d8f eaf7e9"),
    ),
}

WORDS = {
    "dawn": "dawn sunrise morning peach spring apricot",
    "day": "day noon blue sky summer coast sea ocean harbour harbor cobalt",
    "dusk": "dusk sunset evening twilight violet purple lavender magic",
    "night": "night midnight moon star stars neon cyberpunk galaxy dark indigo",
    "mint": "mint fresh pastel celadon jade aqua",
    "forest": "forest green meadow valley moss olive garden wood jungle",
    "desert": "desert dune dunes sand terracotta clay canyon orange ochre",
    "rose": "rose pink blossom cherry silk berry petal",
    "ember": "ember fire red autumn volcano lava crimson copper",
    "snow": "snow winter ice glacier frost arctic silver white fog",
    "linen": "linen paper cream beige minimal studio product ceramic wool",
    "lagoon": "lagoon teal turquoise tropical island reef underwater",
}
BY_WORD = {word: name for name, words in WORDS.items() for word in words.split()}


def by_words(words: list[str], rng: Random) -> Palette:
    """The first colour word decides; names of palettes themselves go before words that merely suggest one."""
    named = [w for w in words if w in PALETTES]
    hinted = [BY_WORD[w] for w in words if w in BY_WORD]
    chance = rng.choice(sorted(PALETTES))  # drawn in any case, so that the rest of the picture does not depend on it
    return PALETTES[(named or hinted or [chance])[0]]


def from_picture(picture: Image.Image) -> Palette:
    """A palette in the colours of a reference."""
    colours = sorted(_main_colours(picture), key=light, reverse=True)
    pale, deep = colours[0], colours[-1]
    land = (*(mix(colours[i], deep, 0.12 * i) for i in (1, 2, 3)), mix(deep, (10, 10, 20), 0.35))
    vivid = sorted(colours, key=_vividness, reverse=True)
    sky = (mix(colours[1], (255, 255, 255), 0.35), mix(pale, (255, 255, 255), 0.45), mix(pale, (255, 252, 244), 0.7))
    return Palette(sky, mix(vivid[0], (255, 250, 235), 0.65), land, (*vivid[:3], mix(pale, (255, 255, 255), 0.6)))


def _main_colours(picture: Image.Image) -> list[Colour]:
    """Six colours of the picture; a picture of one colour alone gives six shades of it."""
    small = picture.convert("RGB").resize((64, 64)).quantize(6, Image.Quantize.MEDIANCUT).convert("RGB")
    found: list[Colour] = [colour for _, colour in small.getcolors() or []]  # type: ignore[misc]
    shades = [mix(found[0], (255, 255, 255), 0.5), mix(found[0], (0, 0, 0), 0.5)]
    return (found + (shades + found) * 6)[:6]


def _vividness(colour: Colour) -> float:
    _, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    return saturation * (0.3 + value)
