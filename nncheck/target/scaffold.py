"""`nncheck init`: a file that binds the parts of a set-up, filled in with what a training file names."""

from __future__ import annotations

import ast
from pathlib import Path

from nncheck.target.loading import parse_target
from nncheck.target.names import NAMES, made_names
from nncheck.target.reading import Reading, read, training_on_import

_HEAD = '''"""The training set-up of {what}, for `nncheck run {output}`.

Everything here runs when nncheck loads the file; train somewhere else, or under `if __name__ == "__main__":`.
"""

{imports}import nncheck

'''

_EMPTY = """
# A batch is (inputs, target), a tensor, or a dict for model(**batch). For anything else write a training_step:
#
#     def training_step(model, batch):
#         return loss
#
setup = nncheck.Recipe(
"""

_ASKED = {
    "model": "build the model here",
    "train_loader": "a DataLoader, or any iterable of batches",
    "loss_fn": "loss_fn(output, target) -> scalar; leave out if the model returns its loss",
    "optimizer": "leave out for AdamW(lr=3e-4)",
}


def scaffold(target: str | None, output: Path) -> str:
    """The text of the file. Raises TargetError if the target cannot be read."""
    if target is None:
        return _HEAD.format(what="this project", output=output, imports="") + _recipe({}, None)
    parsed = parse_target(target)
    reading = read(parsed.path)
    steps = training_on_import(reading)
    found = {} if steps else _parts(reading)
    module = parsed.module or parsed.path.stem
    names = sorted({name.partition("(")[0] for name in found.values()})
    if steps:
        line = steps[-1].line
        imports = (
            f"# {parsed.path.name} trains when it is imported (line {line}), so its parts cannot be imported from it.\n"
            "# Move what builds them into functions in a file of their own, and import those here.\n"
        ) + _quoted(reading)
    elif names and module.replace(".", "").isidentifier():
        imports = f"from {module} import {', '.join(names)}\n\n"
    else:
        imports = f"# {parsed.path.name} binds none of the usual names at module level.\n" + _quoted(reading)
        found = {}
    return _HEAD.format(what=parsed.path.name, output=output, imports=imports) + _recipe(found, reading)


def _parts(reading: Reading) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in ("model", "train_loader", "val_loader", "loss_fn", "optimizer", "scheduler"):
        for name in (*NAMES[part], *made_names(part)):
            if name in reading.bound:
                found[part] = name
                break
    return found


def _quoted(reading: Reading) -> str:
    """The lines of the file that build parts, as comments, wherever they stand."""
    wanted = {name for part in _ASKED for name in NAMES[part]}
    lines = []
    for node in ast.walk(reading.tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            if names & wanted:
                lines.append(f"#   line {node.lineno}: {ast.unparse(node)}")
    return ("#\n# It builds:\n" + "\n".join(lines) + "\n\n") if lines else "\n"


def _recipe(found: dict[str, str], reading: Reading | None) -> str:
    text = _EMPTY.lstrip("\n")
    for part, asked in _ASKED.items():
        if part in found:
            text += f"    {part}={found[part]},\n"
        elif part in ("model", "train_loader"):
            text += f"    {part}=...,  # {asked}\n"
        else:
            text += f"    # {part}=...,  # {asked}\n"
    for part in ("val_loader", "scheduler"):
        if part in found:
            text += f"    {part}={found[part]},\n"
    return text + ")\n"
