"""The page as a document: well formed, nothing that runs or loads, every text of a file only text."""

from __future__ import annotations

import re

import crafted
import pytest
from hostile_report import CLIP_IDS, RUN_NAMES, Page, write_hostile_report

from figclip_cli.report import ReportMaterial, write_report


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path, summary = write_hostile_report(tmp_path_factory.mktemp("hostile"))
    return path.read_text(), summary


@pytest.fixture(scope="module")
def page(hostile):
    return Page(hostile[0])


def test_it_is_well_formed(page):
    assert not page.problems
    assert len(page.ids) == len(set(page.ids))
    assert set(page.labelled) <= set(page.ids)


def test_nothing_of_it_runs(page):
    assert not page.handlers
    assert not page.tags & {"script", "iframe", "object", "embed", "form", "input", "base", "foreignobject", "image"}


def test_nothing_of_it_loads(hostile, page):
    anchors = {f"#{one}" for one in page.ids}
    assert page.links
    for link in page.links:
        assert link in anchors or link.startswith("data:image/jpeg;base64,") or link == "data:,", link[:80]
    for found in re.findall(r"url\(([^)]*)\)", hostile[0]):
        assert found in anchors
    assert "default-src 'none'" in hostile[0]


def test_every_section_has_material(hostile):
    assert all(hostile[1].sections.values()) and len(hostile[1].sections) == 9
    assert not hostile[1].not_used


def test_every_picture_is_counted(hostile, page):
    assert hostile[1].pictures == len(page.images) > 20


def test_headings_go_down_by_one_level_at_most(page):
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_pictures_say_who_does_what(page):
    assert all(one["alt"].strip() for one in page.images)
    assert any("push.01" in one["alt"] for one in page.images)
    assert any("\U0001f98a fox" in one["alt"] for one in page.images)


def test_texts_are_there_as_texts_and_cut_where_they_are_long(hostile, page):
    said = "".join(page.text)
    for text in ("<script>window.owned=1</script>", '"><img src=x onerror="window.owned=1">', "]]> &amp; & <!--"):
        assert text in said
    assert CLIP_IDS[0] in said and RUN_NAMES[0] in said
    assert "w" * 200 in said and "w" * 301 not in re.sub(r"<code>.*?</code>", "", hostile[0], flags=re.DOTALL)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", said)


def test_a_direction_mark_stays_inside_what_is_isolated(hostile):
    outside = re.sub(r"<bdi>.*?</bdi>", "", hostile[0], flags=re.DOTALL)
    for tag in ("<title>", "<desc", "<caption>", "<h1>", "<text"):
        for found in re.findall(rf"{tag}[^>]*>[^<]*", hostile[0] if tag == "<text" else outside):
            if tag in ("<title>", "<h1>", "<text", "<desc"):
                assert "\u202e" not in found


def test_equal_inputs_give_equal_bytes_but_for_the_command(tmp_path):
    run, nothing = crafted.craft_run(tmp_path, terms=["clip_event"]), ReportMaterial(results=[], frames=[])
    first, second = (write_report([run], tmp_path / name, nothing).path.read_text() for name in ("a.html", "b.html"))
    assert first == second and first.count("<svg") == 4
