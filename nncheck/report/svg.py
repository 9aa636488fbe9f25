"""Matplotlib's SVG made fit for a page: looks as presentation attributes, ink in `currentColor`.

A content security policy without `unsafe-inline` drops every `style=` and `<style>`, and what is left of matplotlib's own
output is a black box. Presentation attributes pass, and `currentColor` follows the text around the picture into dark mode.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

# Stands for "the colour of text" while matplotlib draws. Not black: the SVG back end leaves pure black out.
INK = "#010203"

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(
    r"(?:(?P<style>italic|oblique)\s+)?(?:(?P<weight>bold|\d{3})\s+)?(?P<size>[\d.]+)px\s+(?P<family>.+)"
)
_NO_TURN = re.compile(r"\s*rotate\(-?0(?: [^)]*)?\)")
_LONG = re.compile(r"(\.\d\d)\d+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# Of no use to a reader, or repeated on the root.
_DROPPED = {"metadata", "style", "title"}
_DROPPED_PROPERTIES = {"white-space", "stroke-linejoin", "stroke-linecap", "font-family"}
_UNITS_PER_PIXEL = 72 / 96
FONT_FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def restyle(svg: str, *, key: str, label: str) -> str:
    """The drawing as an `<svg>` element for a page; `key` keeps its ids apart from other drawings', `label` is read out."""
    root = ElementTree.fromstring(svg)  # matplotlib's own output, which escapes every text in it
    width, height = (float(value) / _UNITS_PER_PIXEL for value in root.attrib["viewBox"].split()[2:])
    references = _references(root)
    _rewrite(root, references, key)
    view_box = _LONG.sub(r"\1", root.attrib["viewBox"])
    root.attrib.clear()
    root.attrib |= {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": view_box,
        "width": f"{width:.0f}",
        "height": f"{height:.0f}",
        "role": "img",
        "aria-label": label,
        "font-family": FONT_FAMILY,
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> set[str]:
    found: set[str] = set()
    for element in root.iter():
        if _HREF in element.attrib:
            found.add(element.attrib[_HREF].removeprefix("#"))
        for value in element.attrib.values():
            found.update(_REFERENCE.findall(value))
    return found


def _rewrite(element: ElementTree.Element, references: set[str], key: str) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    attributes = element.attrib
    if _HREF in attributes:
        attributes["href"] = f"#{key}-{attributes.pop(_HREF).removeprefix('#')}"
    if "id" in attributes:
        id = attributes.pop("id")
        if id in references:
            attributes["id"] = f"{key}-{id}"
    attributes |= _presentation(attributes.pop("style", ""))
    if "transform" in attributes:
        attributes["transform"] = _NO_TURN.sub("", attributes["transform"])
        if not attributes["transform"]:
            del attributes["transform"]
    for name, value in attributes.items():
        if name == "d":
            attributes[name] = " ".join(_LONG.sub(r"\1", value).split())
        elif name in ("x", "y", "transform", "width", "height"):
            attributes[name] = _LONG.sub(r"\1", value)
        elif value == INK:
            attributes[name] = "currentColor"
        else:
            attributes[name] = _REFERENCE.sub(rf"url(#{key}-\1)", value)
    # White space between elements is a tenth of the bytes and shows nothing; within <text> it is text.
    element.tail = None
    if element.tag != "text":
        element.text = None
    for child in list(element):
        if child.tag.removeprefix(_SVG) in _DROPPED:
            element.remove(child)
        else:
            _rewrite(child, references, key)


def _presentation(style: str) -> dict[str, str]:
    """`fill: none; font: 10px 'Arial'` as attributes. The `font` shorthand is none: its parts are."""
    attributes: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if not value or name in _DROPPED_PROPERTIES:
            continue
        if name != "font":
            attributes[name] = value
        elif match := _FONT.match(value):
            attributes["font-size"] = match["size"]
            if match["weight"]:
                attributes["font-weight"] = match["weight"]
            if match["style"]:
                attributes["font-style"] = match["style"]
    return attributes
