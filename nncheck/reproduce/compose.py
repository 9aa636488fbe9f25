"""Puts one script together: the code that shows a finding, what of the shared code it needs, and how the file's parts are bound."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nncheck.verdict import CheckResult, TargetResult

# In the order in which their parts are written down.
_FILES = ("setup", "running", "data", "starting", "wiring", "steps", "loop", "learning", "saving")
_IDE_COMMENTS = re.compile(r"  # (noqa|fmt|type): .*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A function, class or constant: its source, the names it uses, and where it stands."""

    source: str
    uses: frozenset[str]
    order: tuple[int, int]
    arguments: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


def reproduction(target: TargetResult, finding: CheckResult, *, seed: str, folder: str) -> str | None:
    """The whole of `reproduce.py` for this finding; None if the target's parts are not known well enough to bind them.

    `folder` is where nncheck was run, as seen from the repository's root.
    """
    parts, _ = _library()
    name = finding.id.replace("-", "_")
    show = parts.get(name)
    if not target.set_up:
        return None
    bound = {name for node in ast.parse(target.set_up).body for name in _binds(node)}
    if show is not None and "set_up" in bound and "setup" in show.arguments:
        first = "set_up(file)"
    elif show is not None and "steps" in show.arguments:
        first = "steps_of_script(file, ARGUMENTS)" if "ARGUMENTS" in bound else "steps_of(lambda: set_up(file))"
    elif "ARGUMENTS" in bound:
        name, show, first = "at_first_step", None, "file, ARGUMENTS"
    else:
        return None
    given = [] if show is None else _given(show, finding)
    main = _MAIN.format(
        call=f"{name}({', '.join([first, *given])})",
        folder=f"    os.chdir({folder!r})\n" if folder else "",
    )
    real = "ARGUMENTS" in bound
    set_up = f"SEED = {int(seed or 0)}\n{target.set_up.strip()}\n"
    if target.file:
        set_up = re.sub(r"^FILE = .*$", lambda _: f"FILE = {target.file!r}", set_up, count=1, flags=re.MULTILINE)
    return _written(_docstring(target, finding, script=real), set_up, main)


def shown_by_a_script() -> set[str]:
    """The ids of the checks whose findings a script of their own shows."""
    parts, _ = _library()
    return {name.replace("_", "-") for name, part in parts.items() if {"setup", "steps"} & set(part.arguments[:1])}


_MAIN = """\
if __name__ == "__main__":
    file = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else FILE)
{folder}    try:
        shows = {call}
    except Exception:
        traceback.print_exc()
        print("This could not be tried.")
        raise SystemExit(2) from None
    if shows is None:
        raise SystemExit(2)
    print("The fault shows." if shows else "The fault does not show.")
    raise SystemExit(1 if shows else 0)
"""


def _docstring(target: TargetResult, finding: CheckResult, *, script: bool) -> str:
    verdict = finding.verdict
    said = finding.summary[:1].upper() + finding.summary[1:]
    paragraphs = [f"{said}.", f"Shown with torch alone, for {target.target} (check {finding.id})."]
    paragraphs += [f"Measured: {verdict.measured}."] if verdict.measured and verdict.measured != finding.summary else []
    paragraphs += [f"Expected: {verdict.expected}."] if verdict.expected else []
    paragraphs += [f"Place: {place.file}:{place.line}" for place in verdict.places[:1] if place.file]
    paragraphs += [
        "In the root of the repository: `python reproduce.py`, or `python reproduce.py FILE` for another version of the file. "
        "The exit code is 1 while the fault shows, 0 when it does not, 2 where it could not be tried."
    ]
    if script:
        paragraphs.append("The script is run for a while as it is: what it writes is written.")
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 116, break_long_words=False)]
    text = "\n".join([lines[0], "", *lines[1:]] if len(paragraphs[0]) < 116 else lines)
    return '"""' + text.replace("\\", "\\\\").replace('"', "'") + '\n"""\n'


def _given(show: _Part, finding: CheckResult) -> list[str]:
    """What the function is told of the finding: figures by their names, and the names of its places."""
    numbers = finding.verdict.numbers
    given = [f"{key}={_plain(numbers[key])}" for key in show.keywords if key in numbers]
    if "names" in show.keywords:
        given.append(f"names={tuple(place.name for place in finding.verdict.places)!r}")
    return given


def _plain(value: float) -> str:
    text = f"{value:.6g}"
    return f'float("{text}")' if text in ("inf", "-inf", "nan") else text


def _written(docstring: str, set_up: str, main: str) -> str:
    parts, imports = _library()
    needed: dict[str, _Part] = {}
    own = {name for node in ast.parse(set_up).body for name in _binds(node)}
    pending = _names(ast.parse(set_up)) | _names(ast.parse(main)) - {"file"}
    modules = pending & {"sys", "traceback", "os", "torch"}
    while pending:
        name = pending.pop()
        if name in needed or name in own:
            continue
        if name in parts:
            needed[name] = parts[name]
            pending |= parts[name].uses
        elif name in imports:
            modules.add(name)
    sources = [part.source for part in sorted(needed.values(), key=lambda part: part.order)]
    return "\n\n".join([_imports(docstring, modules), *sources, set_up, main]).rstrip() + "\n"


def _imports(docstring: str, names: set[str]) -> str:
    _, known = _library()
    plain, chosen = set(), dict[str, set[str]]()
    for name in names:
        module, item = known.get(name, (name, ""))
        if item:
            chosen.setdefault(module, set()).add(item)
        else:
            plain.add(module)
    lines = [f"import {module}" for module in sorted(plain)]
    lines += [f"from {module} import {', '.join(sorted(items))}" for module, items in sorted(chosen.items())]
    own = [line for line in lines if "torch" not in line.split()[1]]
    return (
        "\n".join([docstring + "\nfrom __future__ import annotations\n", *own, "", *(x for x in lines if x not in own)])
        + "\n"
    )


@cache
def _library() -> tuple[dict[str, _Part], dict[str, tuple[str, str]]]:
    """Every part by its name, and what is imported under which name: (module, item or "")."""
    parts: dict[str, _Part] = {}
    imports: dict[str, tuple[str, str]] = {}
    for number, file in enumerate(_FILES):
        text = (Path(__file__).parent / f"{file}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import):
                imports |= {alias.name.partition(".")[0]: (alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports |= {
                    a.name: (node.module or "", a.name)
                    for a in node.names
                    if not (node.module or "").startswith("nncheck")
                }
            else:
                for name in _binds(node):
                    parts[name] = _part(node, text, (number, node.lineno))
    imports.pop("annotations", None)
    return parts, imports


def _binds(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    return [t.id for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []


def _part(node: ast.stmt, text: str, order: tuple[int, int]) -> _Part:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    source = "".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])
    arguments = node.args if isinstance(node, ast.FunctionDef) else None
    return _Part(
        source=_IDE_COMMENTS.sub("", source).rstrip() + "\n",
        uses=frozenset(_names(node)),
        order=order,
        arguments=tuple(a.arg for a in arguments.args) if arguments else (),
        keywords=tuple(a.arg for a in arguments.kwonlyargs) if arguments else (),
    )


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
