"""Short texts of ours and of checks as HTML: paragraphs, lists, indented code, `code` and addresses. Everything is escaped."""

from __future__ import annotations

import re
from textwrap import dedent

from markupsafe import Markup, escape

from nncheck.report.text import clean

_TOKEN = re.compile(r"`([^`\n]+)`|(https?://[^\s<>\"'`]*[^\s<>\"'`.,;:!?)\]])")
_ITEM = re.compile(r"(?:[-*]|\d+[.)]) +")


def inline(text: str) -> Markup:
    """One run of text: what stands in backticks as code, addresses as links."""
    parts: list[Markup] = []
    last = 0
    text = clean(text)
    for match in _TOKEN.finditer(text):
        parts.append(escape(text[last : match.start()]))
        if match[1] is not None:
            parts.append(Markup("<code>{}</code>").format(match[1]))
        else:
            parts.append(Markup('<a href="{0}" rel="noopener noreferrer">{0}</a>').format(match[2]))
        last = match.end()
    parts.append(escape(text[last:]))
    return Markup("").join(parts)


def prose(text: str) -> Markup:
    """Paragraphs parted by empty lines; indented ones are code, `- ` begins an item."""
    blocks: list[str] = []
    for block in re.split(r"\n[ \t]*\n", clean(text).strip("\n").rstrip()):
        if blocks and _is_code(block) and _is_code(blocks[-1]):
            blocks[-1] += f"\n\n{block}"
        else:
            blocks.append(block)
    return Markup("\n").join(_block(block) for block in blocks if block.strip())


def _is_code(block: str) -> bool:
    return all(line.startswith(("    ", "\t")) for line in block.split("\n") if line.strip())


def _block(block: str) -> Markup:
    lines = block.split("\n")
    if _is_code(block):
        return Markup("<pre><code>{}</code></pre>").format(dedent(block).strip("\n"))
    first = next((k for k, line in enumerate(lines) if _ITEM.match(line)), None)
    if first is None:
        return Markup("<p>{}</p>").format(inline(" ".join(line.strip() for line in lines)))
    items: list[str] = []
    for line in lines[first:]:
        if match := _ITEM.match(line):
            items.append(line[match.end() :])
        else:
            items[-1] += " " + line.strip()
    listed = Markup("").join(Markup("<li>{}</li>").format(inline(item)) for item in items)
    before = (
        Markup("<p>{}</p>").format(inline(" ".join(line.strip() for line in lines[:first]))) if first else Markup("")
    )
    return before + Markup("<ul>{}</ul>").format(listed)
