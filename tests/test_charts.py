"""Charts drawn on the server: bars to scale, round axes, labels that never overlap, words for whoever does not look."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from django.template.loader import render_to_string

from flux2web import charts


def days(*values: int) -> list[tuple[str, int]]:
    return [(f"{date(2026, 11, 1) + timedelta(days=n):%-d %b}", value) for n, value in enumerate(values)]


def shown(points, **context) -> str:
    return render_to_string("_chart.html", {"chart": charts.bars(points), "title": "Spent by day", **context})


@pytest.mark.parametrize(
    ("highest", "top"),
    [
        (0, 2),
        (1, 2),
        (2, 2),
        (3, 3),
        (7, 10),
        (9, 10),
        (11, 15),
        (99, 100),
        (402, 500),
        (7400, 7500),
        (1001, 1500),
        (10**12, 10**12),
    ],
)
def test_the_axis_ends_at_a_round_number_just_above_the_highest(highest, top):
    step, count = charts.axis(highest)
    assert step * count == top
    assert count in (2, 3)


def test_bars_are_to_scale_and_stand_on_the_ground():
    chart = charts.bars(days(0, 50, 100))
    nothing, half, whole = chart.bars
    assert (nothing.height, half.height, whole.height) == (0, charts.HEIGHT / 2, charts.HEIGHT)
    assert all(bar.y + bar.height == charts.HEIGHT for bar in chart.bars)


def test_one_credit_beside_a_million_is_still_seen():
    assert charts.bars(days(1, 10**6)).bars[0].height >= 1


@pytest.mark.parametrize("count", [1, 2, 7, 31, 92, 366])
def test_bars_stay_in_their_columns(count):
    chart = charts.bars(days(*range(count)))
    for bar in chart.bars:
        assert bar.left <= bar.x
        assert bar.x + bar.width <= bar.left + bar.column + 0.02 <= charts.WIDTH + 0.1


@pytest.mark.parametrize("count", [1, 7, 31, 92, 366])
@pytest.mark.parametrize(("width_px", "wide"), [(charts.NARROW_PX, False), (charts.WIDE_PX, True)])
def test_labels_never_overlap(count, width_px, wide):
    bars = charts.bars(days(*range(count))).bars
    ticks = [(bar.percent * width_px / 100, bar.tick) for bar in bars if bar.tick and (wide or not bar.wide)]
    assert ticks
    for (left, said), (right, next_said) in zip(ticks, ticks[1:], strict=False):
        assert right - left >= (len(said) + len(next_said)) * charts.CHAR_PX / 2


def test_a_long_name_is_cut_under_its_bar_and_whole_in_the_table():
    name = "Alexandra Papadopoulou of Thessaloniki"
    chart = charts.bars([(name, 3)])
    assert chart.bars[0].tick == "Alexandra P…"
    assert name in shown([(name, 3)])


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (999, "999"), (1500, "1.5k"), (2 * 10**6, "2M"), (10**12, "1T")])
def test_an_axis_says_large_numbers_shortly(value, said):
    assert charts.short(value) == said


def test_nothing_spent_is_said_and_not_drawn():
    page = shown(days(0, 0, 0))
    assert "Nothing spent in this time." in page
    assert "<svg class" not in page
    assert "No picture was made." in shown(days(0), empty="No picture was made.")


def test_no_points_at_all_are_nothing_spent_too():
    assert charts.bars([]).empty


def test_the_drawing_says_in_words_what_it_shows():
    page = shown(days(0, 24, 1))
    assert re.search(r'role="img" aria-labelledby="chart-spent-by-day-title chart-spent-by-day-desc"', page)
    assert "25 credits in all, most at 2 Nov with 24 credits." in page
    assert "<title>3 Nov: 1 credit</title>" in page
    assert len(re.findall(r"<tr><th scope=.row.>\d Nov</th>", page)) == 3


def test_another_unit_is_named_as_it_is():
    assert charts.bars([("revid", 1200)], unit="pictures").bars[0].said == "revid: 1,200 pictures"


def test_labels_are_escaped():
    assert "<b>" not in shown([("<b>Ann</b>", 3)])


def test_numbers_are_written_as_svg_reads_them():
    page = shown(days(*range(31)))
    values = re.findall(r' (?:x|y|width|height|x1|y1|y2)="([^"]+)"', page)
    assert len(values) > 100
    assert all(re.fullmatch(r"\d+(\.\d+)?%?", value) for value in values)
