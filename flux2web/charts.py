"""Charts drawn on the server: numbers in, places of bars and lines out. templates/_chart.html draws them. Pure.

Bars stand in a box of WIDTH by HEIGHT that stretches to the page; words are laid over it and keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .money import credits_text, format_credits

WIDTH, HEIGHT = 1000, 140  # of the box: WIDTH is whatever the page has, HEIGHT is in pixels
BAR_MAX = 72  # of WIDTH: two bars alone are not two walls
NARROW_PX, WIDE_PX = 250, 640  # what the box has at least: on a phone, and where the page says it is wide
CHAR_PX, GAP_PX = 7, 12
LABEL_MAX = 12
SHORT = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True)
class Bar:
    label: str
    value: int
    said: str  # "21 Nov: 24 credits"
    x: float
    y: float
    width: float
    height: float
    left: float  # of the column that the bar stands in, for the mouse
    column: float
    percent: float  # where its label goes
    tick: str  # the label as it is written under the bar; "" where there is no room for it
    wide: bool  # there is room for it only where the page is wide


@dataclass(frozen=True)
class Line:
    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    unit: str
    total: int
    said: str  # the whole in one sentence
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def empty(self) -> bool:
        return not any(bar.value for bar in self.bars)


def bars(points: Sequence[tuple[str, int]], *, unit: str = "credits") -> Chart:
    """One bar a point, in their order. Values below zero are drawn as nothing and said as they are."""
    step, count = axis(max((value for _, value in points), default=0))
    lines = tuple(Line(_y(step * n, step * count), short(step * n)) for n in range(count + 1))
    drawn = tuple(_bar(index, points, step * count, unit) for index in range(len(points)))
    return Chart(drawn, lines, unit, sum(value for _, value in points), _summary(points, unit))


def axis(highest: int) -> tuple[int, int]:
    """A round step and how many of them (2 or 3) reach the highest value, with as little air above as may be."""
    steps = [digit * 10**power for power in range(max(1, len(str(highest)))) for digit in (1, 2, 5, 25)]
    fits = [(step * count, -count, step) for step in steps for count in (2, 3) if step * count >= highest]
    _, count, step = min(fits)
    return step, -count


def short(value: int) -> str:
    """1500 -> "1.5k"."""
    for size, name in SHORT:
        if value >= size:
            return f"{round(value / size, 1):g}{name}"
    return str(value)


def _bar(index: int, points: Sequence[tuple[str, int]], top: int, unit: str) -> Bar:
    label, value = points[index]
    column = WIDTH / len(points)
    width = min(column * 0.76, BAR_MAX)
    y = _y(max(0, value), top)
    narrow, wide = _every(points, NARROW_PX), _every(points, WIDE_PX)
    return Bar(
        label=label,
        value=value,
        said=f"{label}: {_amount(value, unit)}",
        x=round(index * column + (column - width) / 2, 2),
        y=y,
        width=round(width, 2),
        height=round(HEIGHT - y, 2),
        left=round(index * column, 2),
        column=round(column, 2),
        percent=round((index + 0.5) * 100 / len(points), 2),
        tick=_tick(label) if index % wide == 0 else "",
        wide=bool(index % narrow),
    )


def _y(value: int, top: int) -> float:
    """How far below the box's top. What is more than nothing is seen: at least one and a half pixels."""
    return round(HEIGHT - max(value * HEIGHT / top, 1.5 if value else 0), 2)


def _every(points: Sequence[tuple[str, int]], width_px: int) -> int:
    """Each how manieth label fits beside the others."""
    longest = max(len(_tick(label)) for label, _ in points)
    room = max(1, width_px // (longest * CHAR_PX + GAP_PX))
    every = -(-len(points) // room)
    # A phone's labels are some of a wide page's.
    return every if width_px == WIDE_PX else -(-every // _every(points, WIDE_PX)) * _every(points, WIDE_PX)


def _tick(label: str) -> str:
    return label if len(label) <= LABEL_MAX else f"{label[: LABEL_MAX - 1]}…"


def _amount(value: int, unit: str) -> str:
    return credits_text(value) if unit == "credits" else f"{format_credits(value)} {unit}"


def _summary(points: Sequence[tuple[str, int]], unit: str) -> str:
    label, highest = max(points, key=lambda point: point[1], default=("", 0))
    if highest <= 0:
        return "Nothing."
    total = _amount(sum(value for _, value in points), unit)
    return f"{total} in all, most at {label} with {_amount(highest, unit)}."
