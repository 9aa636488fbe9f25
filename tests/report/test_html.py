"""The page as text: whole, escaped, small, and made without torch. What a browser makes of it is in test_browser.py."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nncheck.report.html import to_fragment, to_html
from nncheck.report.json import from_dict
from nncheck.report.prose import inline, prose
from nncheck.verdict import Heatmap, Report
from tests.report import golden


class Page(HTMLParser):
    """Tags as a browser would see them. A void or self-closed one needs no end; every other must be closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def report() -> Report:
    return golden.report()


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(to_html(report))


def test_every_check_has_its_place_and_number(report: Report, page: Page) -> None:
    text = " ".join(" ".join(page.text).split())
    for result in report.targets[0].checks:
        assert page.ids.count(result.id) == 1
        if result.id not in ("double-softmax", "gradient-check"):
            assert result.summary in text
    assert "4.868 ± 0.041 over 5 batches" in text
    assert text.index("batch-mixing") < text.index("loss-at-init") < text.index("dead-relu")
    assert len(page.ids) == len(set(page.ids))


def test_every_link_leads_somewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        target = attributes.get("href") or ""
        if target.startswith("#"):
            assert target[1:] in page.ids, (tag, target)
        elif tag != "use" and target:
            assert target.startswith("https://")


def test_what_is_near_is_said_of_findings_and_of_passes(report: Report) -> None:
    page = to_html(report)
    assert "<dt>Near</dt><dd>the gap of 0.368 lies 0.02 above" in page
    assert "<p>Near: the smallest of 0.61 lies 0.01 above" in page


def test_nothing_is_injected(page: Page) -> None:
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert tag != "img" or (attributes["src"] or "").startswith("data:image/png;base64,")
    assert [attributes.get("type") for attributes, _ in page.scripts] == ["application/json", None]
    whole = "".join(page.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", whole)
    assert "{{ 7 * 7 }}" in whole
    assert golden.SCRIPT in whole


def test_policy_allows_what_is_there_and_no_more(report: Report) -> None:
    text = to_html(report)
    policy = next(a["content"] or "" for t, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_result_is_inside(report: Report, page: Page) -> None:
    data = json.loads(page.scripts[0][1])
    again = from_dict(data)
    assert again.outcome == report.outcome
    assert [result.id for result in again.targets[0].checks] == [result.id for result in report.targets[0].checks]


def test_size(report: Report) -> None:
    assert len(to_html(report).encode()) < 400_000
    # The worst samples that are kept: 16 pictures of noise.
    noise = tuple(
        tuple(tuple((i * 7919 + j * 104729 + c * 31) * 2654435761 // 65536 % 256 for c in range(3)) for j in range(64))
        for i in range(64)
    )
    grid = golden.samples()
    worst = dataclasses.replace(
        grid, samples=tuple(dataclasses.replace(grid.samples[0], pixels=noise) for _ in range(16))
    )
    target = report.targets[0]
    first = target.checks[0]
    loud = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, exhibits=(worst,)))
    assert len(to_html(golden.report(dataclasses.replace(target, checks=(loud, *target.checks[1:]))))) < 1_000_000


def test_several_targets() -> None:
    page = Page(to_html(golden.report(golden.healthy(), golden.target(), golden.unusable())))
    assert len(page.ids) == len(set(page.ids))
    assert {"target-1", "target-2", "target-3", "target-1--symmetry", "target-2--loss-at-init"} <= set(page.ids)
    assert "broken.py stopped with an error of its own" in "".join(page.text)


@pytest.mark.parametrize("report", [golden.report(golden.healthy()), golden.report(golden.unusable())])
def test_other_answers(report: Report) -> None:
    page = Page(to_html(report))
    expected = "No problem found by 9 checks" if report.targets[0].checks else "Could not check broken.py"
    assert expected in page.text


def test_no_target_at_all(report: Report) -> None:
    assert "No check ran" in Page(to_html(dataclasses.replace(report, targets=()))).text


def test_a_picture_that_cannot_be_drawn_costs_only_itself(report: Report) -> None:
    target = report.targets[0]
    first = target.checks[0]
    broken = Heatmap(title="odd", x_label="x", y_label="y", values=(("a", "b"),))  # type: ignore[arg-type]
    check = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, exhibits=(broken,)))
    checks = (check, *target.checks[1:])
    with pytest.MonkeyPatch.context() as patch:
        # The copy of the result inside the page is another matter.
        patch.setattr("nncheck.report.html.to_dict", lambda report: {"targets": []})
        text = to_html(golden.report(dataclasses.replace(target, checks=checks)))
    assert "Could not be drawn: " in text


def test_fragment_is_scoped_and_inert(report: Report) -> None:
    text = to_fragment(report)
    page = Page(text)
    assert page.scripts == []
    # The only ids are those that drawings refer to in themselves.
    assert all(re.fullmatch(r"[0-9a-f]{8}-[\w.-]+-\d+-\w+", id) for id in page.ids)
    style = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)[0]
    rules = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    assert rules.strip().startswith(".nncheck {")
    depth, outside = 0, ""
    for letter in rules:
        depth += (letter == "{") - (letter == "}")
        outside += letter if depth == 0 else ""
    assert outside.replace("}", "").strip() == ".nncheck"
    other = to_fragment(golden.report(golden.target("other.py")))
    assert not set(page.ids) & set(Page(other).ids)


def test_no_torch() -> None:
    program = (
        "import sys\n"
        "from tests.report import golden\n"
        "report = golden.report()\n"
        "report.to_html(), report._repr_html_(), report.to_markdown(), report.to_dict()\n"
        "print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "set()\n"


def test_words_only_need_no_matplotlib() -> None:
    program = (
        "import sys\n"
        "from tests.report import golden\n"
        "golden.report(golden.unusable()).to_html()\n"
        "print({'torch', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("use `x < y`", "use <code>x &lt; y</code>"),
        (
            "see https://a.example/b(c).",
            'see <a href="https://a.example/b(c" rel="noopener noreferrer">https://a.example/b(c</a>).',
        ),
        ("javascript:alert(1)", "javascript:alert(1)"),
        (
            'https://a.example/"onclick=',
            '<a href="https://a.example/" rel="noopener noreferrer">https://a.example/</a>&#34;onclick=',
        ),
        ("a `lone tick", "a `lone tick"),
    ],
)
def test_inline(text: str, html: str) -> None:
    assert str(inline(text)) == html


def test_prose() -> None:
    text = "One\nparagraph.\n\n    code < 1\n\n      more\n\n- an item\n  goes on\n- another"
    assert str(prose(text)) == (
        "<p>One paragraph.</p>\n<pre><code>code &lt; 1\n\n  more</code></pre>\n"
        "<ul><li>an item goes on</li><li>another</li></ul>"
    )
    assert str(prose("")) == ""
