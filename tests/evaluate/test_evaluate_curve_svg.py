"""The drawing: well-formed, one point for each scale in its place, round ticks, hostile names, equal bytes."""

from __future__ import annotations

import math
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest

from figclip_cli.evaluate.curve import Curve, CurvePoint
from figclip_cli.evaluate.curve_drawing import curve_chart, trade_off_chart
from figclip_cli.evaluate.curve_kept import Kept, trade_off
from figclip_cli.evaluate.curve_svg import HEIGHT, WIDTH, Chart, ChartPoint, _axis, draw
from figclip_cli.evaluate.results import Metric

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "a<b>&\"'</title><script>alert(1)</script>",
    "]]><!--&#0;%s{}\\",
    "line\nbreak\ttab\x00\x1b[31m\x7f",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "lone \udcff surrogate \ufffe",
    "映像" * 200,
    "x" * 10_000,
    "",
)


def chart(points, **more):
    return Chart("title", ("one", "two"), "across", "up", tuple(points), **more)


def circles(svg):
    root = ElementTree.fromstring(svg)
    return [(float(one.get("cx")), float(one.get("cy"))) for one in root.iter(f"{SVG}circle")]


def curve_of(name="run", scales=(0.0, 0.25, 1.0), metric="top-1", higher=True, slope=4.0, dataset="x.csv"):
    points = [
        CurvePoint(s, (Metric(metric, 50 + slope * s, 1.5, higher, 50.0, 1.5, slope * s, 0.5 * s),)) for s in scales
    ]
    models = {"base": {"name": f"base {name}", "sha256": "b"}, "adapted": {"name": name, "adapter_sha256": "a"}}
    return Curve("task", dataset, "d", {"clips": 5}, {"clips": 4}, {}, {}, models, metric, tuple(points))


def test_points_are_where_their_numbers_are():
    points = [ChartPoint(0, 0, "0"), ChartPoint(1, 10, "1"), ChartPoint(0.5, 2.5, "2")]
    (x0, y0), (x1, y1), (x2, y2) = circles(draw(chart(points)))
    assert x0 < x2 < x1 and y0 > y2 > y1
    assert x2 == pytest.approx((x0 + x1) / 2, abs=0.02) and y2 == pytest.approx(y0 + (y1 - y0) / 4, abs=0.02)


def test_a_curve_has_a_point_a_label_and_a_bar_for_each_scale_and_a_line_at_the_base():
    scales = (0.0, 0.1, 0.25, 0.5, 1.0)
    svg = draw(curve_chart(curve_of(scales=scales)))
    root = ElementTree.fromstring(svg)
    assert len(circles(svg)) == len(root.findall(f"{SVG}path")) == len(scales)
    labels = [one.text for one in root.findall(f"{SVG}text[@class='mark']")]
    assert labels == ["0", "0.1", "0.25", "0.5", "1"]
    (base,) = root.findall(f"{SVG}line[@class='base']")
    assert base.get("y1") == base.get("y2") and float(base.get("y1")) == pytest.approx(circles(svg)[0][1], abs=0.02)
    assert root.get("role") == "img" and root.find(f"{SVG}title").text == "top-1 of x.csv by scale"
    assert "0.25: 0.25, 51.00 +/- 1.50" in root.find(f"{SVG}desc").text
    texts = [one.text for one in root.findall(f"{SVG}text")]
    assert "run run, base base run" in texts and "task, 4 of 5 clips" in texts and "top-1 (%)" in texts
    assert "prefers-color-scheme:dark" in root.find(f"{SVG}style").text


def test_a_trade_off_has_what_is_kept_across_and_what_is_gained_up():
    gained = curve_of(scales=(0.0, 0.25, 0.5, 1.0), slope=8.0)
    kept = curve_of(scales=(0.0, 0.5, 1.0), metric="t2v MnR", higher=False, slope=2.0, dataset="general.csv")
    trade = trade_off(gained, Kept(Path("k.json"), "", kept))
    drawn = trade_off_chart(trade)
    assert [(one.x, one.y, one.label) for one in drawn.points] == [(0, 0, "0"), (1, 4, "0.5"), (2, 8, "1")]
    assert [(one.x_error, one.y_error) for one in drawn.points] == [(0, 0), (0.25, 0.25), (0.5, 0.5)]
    assert drawn.x_label == "change of t2v MnR, general.csv (ranks), lower is better"
    assert drawn.y_label == "change of top-1, x.csv (points)" and (drawn.base_x, drawn.base_y) == (0, 0)
    root = ElementTree.fromstring(draw(drawn))
    assert len(root.findall(f"{SVG}path")) == 4 and len(root.findall(f"{SVG}line[@class='base']")) == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_and_stay_inside(name):
    svg = draw(curve_chart(curve_of(name=name, metric=name or "m", dataset=name)))
    svg.encode()
    root = ElementTree.fromstring(svg)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        "svg", "title", "desc", "style", "rect", "text", "line", "path", "polyline", "circle",
    }  # fmt: skip
    assert not set("\x00\x1b\x7f\u202e\udcff\ufffe") & set(svg)
    assert all(len(one.text or "") < 150 for one in root.iter(f"{SVG}text"))
    if "script" in name:
        assert "<script>" not in svg and name in root.find(f"{SVG}title").text


def test_equal_charts_have_equal_bytes_and_no_zero_has_a_sign():
    one, other = (draw(curve_chart(curve_of())) for _ in range(2))
    assert one == other and one.endswith("</svg>\n")
    svg = draw(chart([ChartPoint(-1e-9, 0.0, "a"), ChartPoint(-1.0, -3.0, "b"), ChartPoint(1.0, 2.0, "c")]))
    assert ">-0<" not in svg and "-0.0" not in svg and '"-0"' not in svg


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_numbers_ticks_are_round_and_all_is_inside(seed):
    generator = random.Random(seed)
    size = 10.0 ** generator.randint(-6, 11)
    centre = generator.choice((0.0, 1.0, -50.0, 1e6)) * size
    values = [centre + generator.uniform(-size, size) for _ in range(generator.randint(1, 6))]
    values = values * 2 if seed % 5 == 0 else values
    pairs = zip(values, reversed(values), strict=True)
    points = [ChartPoint(x, y, str(n), size / 9, size / 7) for n, (x, y) in enumerate(pairs)]
    svg = draw(chart(points, base_x=centre))
    for x, y in circles(svg):
        assert 0 < x < WIDTH and 0 < y < HEIGHT
    axis = _axis(values, 0.0, 100.0, 6)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8 and len({text for _, text in ticks}) == len(ticks)
    digit = axis.step / 10 ** math.floor(math.log10(axis.step) + 1e-9)
    assert min(abs(digit - one) for one in (1, 2, 5)) < 1e-6
    for value, text in ticks:
        assert float(text) == pytest.approx(value, abs=axis.step * 1e-6) and 0 <= axis.at(value) <= 100


def test_labels_of_points_in_one_place_do_not_lie_on_each_other():
    svg = draw(chart([ChartPoint(0.0, 0.0, text) for text in ("0", "0.25", "0.5", "1")]))
    labels = ElementTree.fromstring(svg).findall(f"{SVG}text[@class='mark']")
    assert len({(one.get("x"), one.get("y")) for one in labels}) == 4
