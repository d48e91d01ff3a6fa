"""What matplotlib draws, made fit for a page: its own names, the page's colours and font, a title and a description."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
# Colours that charts are drawn in stand for the page's, which are others in the dark.
INK, SOFT, LINE = "#010101", "#020202", "#030303"
_PAPER = "#040404"
SERIES = tuple(f"#0500{number:02x}" for number in range(8))
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", _PAPER: "--paper"} | {
    colour: f"--c{number}" for number, colour in enumerate(SERIES)
}
PAPER = _PAPER
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"font-family:[^;]*;?")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def page_svg(document: str, name: str, title: str, description: str) -> str:
    """Return the SVG element for a page.

    Args:
        document: What matplotlib wrote.
        name: Unique in the page; begins every id of the chart.
        title, description: What a screen reader says, as text.
    """
    ET.register_namespace("", _SVG)
    root = ET.fromstring(document)
    for child in list(root):
        if child.tag in (f"{{{_SVG}}}metadata",) or _holds_style(child):
            root.remove(child)
    for element in root.iter():
        _rewrite(element, name)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        made = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        made.text = text
        root.insert(place, made)
    return re.sub(r">\s+<", "><", ET.tostring(root, encoding="unicode"))


def _holds_style(element: ET.Element) -> bool:
    return element.tag == f"{{{_SVG}}}defs" and any(child.tag == f"{{{_SVG}}}style" for child in element)


def _rewrite(element: ET.Element, name: str) -> None:
    attributes = element.attrib
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if _XLINK in attributes:
        attributes["href"] = f"#{name}-{attributes.pop(_XLINK).removeprefix('#')}"
    if "clip-path" in attributes:
        attributes["clip-path"] = _REFERENCE.sub(rf"url(#{name}-\1)", attributes["clip-path"])
    if "style" in attributes:
        style = _FONT.sub("", attributes["style"])
        attributes["style"] = _COLOUR.sub(lambda found: f"var({_VARIABLES[found[0]]})", style)
    if "d" in attributes:
        attributes["d"] = " ".join(attributes["d"].split())
