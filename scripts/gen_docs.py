"""Write the documentation that repeats the code: docs/checks/<id>.md and the table in README.md.

`--check` writes nothing and exits 1 if a file is out of date.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nncheck.registry import Entry, catalogue, slug_to_name  # noqa: E402  # the checkout, not what may be installed
from nncheck.verdict import Stage  # noqa: E402

TABLE = re.compile(r"(<!-- checks:begin -->\n).*?(<!-- checks:end -->)", re.DOTALL)
NOTICE = "<!-- Written by scripts/gen_docs.py from the check's docstring and its tested case; edit those. -->"


def page(entry: Entry) -> str:
    """One check's page."""
    name = slug_to_name(entry.id)
    lines = [
        NOTICE,
        f"# {entry.id}",
        "",
        entry.doc.title,
        "",
        f"Stage: **{entry.stage}** · [source](../../nncheck/checks/{entry.stage}/{name}.py)"
        f" · [tested case](../../{case_of(entry)})",
        "",
    ]
    if entry.after:
        lines += [f"Not asked when one of these failed: {_links(entry.after)}.", ""]
    if entry.consequence_of:
        lines += [
            f"Listed after these where both are found, as their likely consequence: {_links(entry.consequence_of)}.",
            "",
        ]
    for heading, text in (
        ("What it does", entry.doc.what),
        ("Why it matters", entry.doc.why),
        ("How to fix", entry.doc.fix),
        ("Example", example(entry)),
        ("Known limits", entry.doc.limits),
        ("Source", entry.doc.source),
    ):
        lines += [f"## {heading}", "", text, ""]
    return "\n".join(lines)


def case_of(entry: Entry) -> str:
    """The file of tests that holds a check's examples."""
    name = slug_to_name(entry.id)
    return f"tests/capture/test_loop_{name}.py" if entry.stage is Stage.LOOP else f"tests/cases/{name}.py"


def example(entry: Entry) -> str:
    """The difference between the broken and the fixed set-up, or script, of the tests, as a diff."""
    module = importlib.import_module(case_of(entry).removesuffix(".py").replace("/", "."))
    if entry.stage is Stage.LOOP:
        from tests.capture.loop_script import TRAIN

        fixed = getattr(module, "HEALTHY", TRAIN).splitlines()
        broken = next(iter(module.BROKEN.values())).splitlines()
    else:
        broken, fixed = (_body(getattr(module, which)) for which in ("broken", "fixed"))
    changes = list(difflib.unified_diff(broken, fixed, lineterm="", n=8))[3:]
    return "What the tests break, and how they mend it:\n\n```diff\n" + "\n".join(changes) + "\n```"


def _body(function: Callable[..., object]) -> list[str]:
    text = inspect.cleandoc(inspect.getsource(function).partition(":\n")[2])
    return text.splitlines()


def _links(ids: tuple[str, ...]) -> str:
    return ", ".join(f"[{id}]({id}.md)" for id in ids)


def table() -> str:
    """Every check by stage, in the order in which they are asked."""
    rows = ["| stage | check | about |", "|---|---|---|"]
    rows += [
        f"| {e.stage} | [{e.id}](docs/checks/{e.id}.md) | {e.doc.title.replace('|', chr(92) + '|')} |"
        for e in catalogue()
    ]
    return "\n".join(rows) + "\n"


def wanted() -> dict[Path, str]:
    """Every generated file with the text it should have."""
    readme = ROOT / "README.md"
    files = {ROOT / "docs" / "checks" / f"{entry.id}.md": page(entry) for entry in catalogue()}
    files[readme] = TABLE.sub(lambda found: found[1] + table() + found[2], readme.read_text(encoding="utf-8"))
    return files


def main() -> int:
    files = wanted()
    stray = set((ROOT / "docs" / "checks").glob("*.md")) - set(files)
    old = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in [*old, *stray]:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`")
        return 1 if old or stray else 0
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    for path in stray:
        path.unlink()
    print(f"{len(old)} written, {len(stray)} removed, {len(files) - len(old)} up to date")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
