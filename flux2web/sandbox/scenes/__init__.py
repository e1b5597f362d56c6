"""The ways to draw: each takes a size, a palette and chance, and gives a picture back."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from PIL import Image

from ..brush import Size
from ..palettes import Palette
from .city import city, towers
from .land import dunes, hills, sea
from .patterns import abstract, currents, paper_cut, silk
from .people import portrait
from .things import leaves, still_life

Scene = Callable[[Size, Palette, Random], Image.Image]

SCENES: dict[str, Scene] = {
    "hills": hills,
    "dunes": dunes,
    "sea": sea,
    "city": city,
    "towers": towers,
    "still_life": still_life,
    "leaves": leaves,
    "portrait": portrait,
    "currents": currents,
    "silk": silk,
    "paper_cut": paper_cut,
    "abstract": abstract,
}

WORDS = {
    "hills": "hill hills mountain mountains valley ridge landscape alps forest meadow pine pines",
    "dunes": "dune dunes desert sand sahara",
    "sea": "sea ocean coast harbour harbor beach lake boat sail sailing island wave waves bay lighthouse water",
    "city": "city street skyline neon cyberpunk downtown tokyo urban station",
    "towers": "tower towers building buildings architecture skyscraper house houses block isometric castle",
    "still_life": "bowl fruit apple orange life table vase cup jar bottle product ceramic pot kitchen food perfume",
    "leaves": "leaf leaves flower flowers plant plants garden botanical fern blossom jungle bouquet",
    "portrait": "portrait face woman man girl boy person people model hair head child astronaut sitter",
    "currents": "current currents flow stream wind river lines brush ink swirl",
    "silk": "silk fabric cloth satin curtain velvet drapery ribbon",
    "paper_cut": "paper cut papercut cave origami layers layered cutout",
    "abstract": "abstract geometric bauhaus pattern shapes poster logo tiles mosaic",
}
BY_WORD = {word: name for name, words in WORDS.items() for word in words.split()}


def by_words(words: list[str], rng: Random) -> Scene:
    """The scene that the prompt's first telling word asks for, else one by chance."""
    chance = rng.choice(sorted(SCENES))
    return SCENES[next((BY_WORD[w] for w in words if w in BY_WORD), chance)]
