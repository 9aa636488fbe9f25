"""Markdown: what it says, and that names stay names."""

from __future__ import annotations

import re

import pytest

from nncheck.report.markdown import block, code, escaped, finding_markdown, phrase, to_markdown
from tests.report import golden
from tests.report.marked import marked
from tests.report.saved import same_as_saved


def test_whole_report() -> None:
    same_as_saved("result.md", to_markdown(golden.report(golden.healthy(), golden.target(), golden.unusable())))


def test_one_finding() -> None:
    target = golden.target()
    text = finding_markdown(golden.report(), target, target.check("loss-at-init"))
    assert text.startswith("### ✗ failed: `loss-at-init` loss starts at 4.87")
    assert "- **Where:** `model.py:41` `head`: weights of scale 3.1" in text
    assert "```python\nwith torch.no_grad():\n    model.head.weight *= 0.1\n```" in text
    assert text.endswith("- **Run again:** `nncheck run examples/digits_cnn.py --select loss-at-init`")


@pytest.mark.parametrize("text", golden.HOSTILE)
def test_names_stay_text(text: str) -> None:
    whole = re.sub(r"`+[^`]*`+", "", escaped(text) + phrase(text))
    assert not re.search(r"(?<!\\)[<*_\[|$]", whole)
    assert "\x1b" not in whole
    assert code(text).strip("`").strip() != ""


def test_mentions_and_addresses_do_nothing() -> None:
    assert escaped("@team see https://evil.example www.evil.example") == (
        "&#64;team see https:&#47;/evil.example www&#46;evil.example"
    )


def test_fences_are_longer_than_what_they_hold() -> None:
    assert code("a``b") == "```a``b```"
    assert code("`a`") == "`` `a` ``"
    assert block("x\n```\ny")[0] == "````"
    assert code("a|b") == "`a¦b`"


def test_a_printed_report_is_its_markdown() -> None:
    report = golden.report()
    assert str(report) == to_markdown(report)


def test_what_is_accepted_has_a_section_and_counts_as_no_problem() -> None:
    text = marked().to_markdown()
    section = text.partition("### Accepted\n")[2].partition("\n\n2 failed")[0]
    assert "- `dead-relu`: sparse on purpose, see paper 3.2 (412 of 512 units" in section
    assert "> nncheck.toml:12: the acceptance of shuffle matches nothing any more" in section
    assert "| accepted | `dead-relu` |" in text
    assert "1 accepted in " in text
