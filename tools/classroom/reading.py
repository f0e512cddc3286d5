"""The learner's functions, by name, out of the code cells of notebooks.

No cell is run as such. Of what stands at the top of the cells only that is taken which
an answer needs: its definition, and the imports, functions, classes and constants that
it names, and those that these name. Copied, deleted and edited cells, cells that fail
and cells that are no Python are of no matter.
"""

import ast
import contextlib
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

CHOICE = "my_choice"
Notebook = list[str]  # the source of each code cell


@dataclass
class Found:
    """What a learner wrote for one exercise, or as a choice.

    state: `written`, `untouched` or `missing`.  parts: statements to run one after the
    other, the answer's own last.  shown: the answer as it was written.
    """

    state: str = "missing"
    parts: list[str] = field(default_factory=list)
    shown: str = ""


@dataclass(frozen=True)
class Statement:
    """One at the top of a cell: itself, its text, the names it binds and needs."""

    node: ast.stmt
    text: str
    binds: frozenset[str]


def code_cells(notebook: Any) -> Notebook:
    """The sources of the code cells of a notebook's JSON, whatever else it holds.

    >>> code_cells({"cells": [{"cell_type": "code", "source": ["a = 1\\n", "b"]}, 7]})
    ['a = 1\\nb']
    """
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    found = []
    for cell in cells if isinstance(cells, list) else []:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source")
            lines = source if isinstance(source, list) else [source]
            found.append("".join(line for line in lines if isinstance(line, str)))
    return found


def statements(cells: Iterable[str]) -> tuple[list[Statement], list[str]]:
    """The statements at the top of cells, magics left out; and what cells are no
    Python, by the reason."""
    found, problems = [], []
    for cell in cells:
        try:
            text = TransformerManager().transform_cell(cell)
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problems.append(f"{cell.strip()[:60]!r} is no Python: {error}")
            continue
        found += [
            Statement(node, ast.get_source_segment(text, node) or "", binds(node))
            for node in tree.body
            if not isinstance(node, ast.Expr)
        ]
    return found, problems


def binds(node: ast.stmt) -> frozenset[str]:
    """The names that a statement binds at the top."""
    return frozenset(_bound(node))


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from _bound(child)


def needs(node: ast.stmt) -> set[str]:
    """The names from outside that a statement uses, inside its functions, too."""
    try:
        table = symtable.symtable(ast.unparse(node), "cell", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return set()
    own = {one.get_name() for one in table.get_symbols() if one.is_referenced()}
    return own | {name for inner in table.get_children() for name in _globals(inner)}


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    yield from (one.get_name() for one in table.get_symbols() if one.is_global())
    for inner in table.get_children():
        yield from _globals(inner)


# ----------------------------------------------------------------- exercises and choice


def is_stub(node: ast.stmt) -> bool:
    """Whether a function is as it was handed out: a docstring, and `...`, `pass` or
    `raise NotImplementedError`."""
    body = node.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else [node]
    for part in body:
        harmless = isinstance(part, ast.Pass) or (
            isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
        )
        raised = isinstance(part, ast.Raise) and "NotImplemented" in ast.unparse(part)
        if not harmless and not raised:
            return False
    return True


def defines(node: ast.stmt, name: str) -> bool:
    """Whether a statement is somebody's answer of that name: a definition, or a name
    given to a function. `name = check(name)` is none."""
    if isinstance(node, ast.FunctionDef):
        return node.name == name
    if not isinstance(node, ast.Assign):
        return False
    targets = [each.id for each in node.targets if isinstance(each, ast.Name)]
    return targets == [name] and isinstance(node.value, (ast.Lambda, ast.Name))


def chosen(node: ast.stmt) -> bool:
    """Whether it is the choice of an open task, made."""
    return (
        isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == CHOICE for t in node.targets)
        and not (isinstance(node.value, ast.Constant) and node.value.value is ...)
    )


def read(notebooks: list[Notebook], names: list[str], others: set[str]) -> dict:
    """What was written for each of the exercises `names`, and as a choice, as JSON.

    notebooks: the one that counts most comes last.  others: the names of all exercises
    of the course; one that is asked for here and was not written is the course's.
    """
    found, problems = [], []
    for notebook in notebooks:
        more, wrong = statements(notebook)
        found, problems = found + more, problems + wrong
    answers = {name: _last(found, name) for name in {*names, *others}}
    choices = [one for one in found if chosen(one.node)]
    answers[CHOICE] = choices[-1] if choices else None
    result = {}
    for name in [*names, CHOICE]:
        last = answers[name]
        stub = any(defines(one.node, name) for one in found)
        one = Found("untouched" if stub and name != CHOICE else "missing")
        if last is not None:
            one = Found("written", _with_needs(last, found, answers), last.text)
        result[name] = vars(one)
    return {"found": result, "problems": problems[:20]}


def _last(found: list[Statement], name: str) -> Statement | None:
    """The last answer of that name that is no stub."""
    written = [
        one for one in found if defines(one.node, name) and not is_stub(one.node)
    ]
    return written[-1] if written else None


def _with_needs(
    answer: Statement, found: list[Statement], answers: dict[str, Statement | None]
) -> list[str]:
    """The statements that an answer needs, in their order, and itself."""
    wanted, taken, names = [answer], [answer], set()
    while wanted:
        new = needs(wanted.pop().node) - names
        names |= new
        for one in found:
            if one not in taken and _gives(one, new, answers):
                taken.append(one)
                wanted.append(one)
    stars = [one for one in found if "*" in one.binds and one not in taken]
    ordered = [one for one in found if one in taken or one in stars]
    ordered = [one for one in ordered if one is not answer]
    return [_text(one.node) for one in [*ordered, answer]]


def _gives(
    one: Statement, names: set[str], answers: dict[str, Statement | None]
) -> bool:
    """Whether a statement binds one of the names; of exercises only the answer."""
    return any(
        name not in answers or one is answers[name] for name in one.binds & names
    )


def _text(node: ast.stmt) -> str:
    """A statement as it is run: a function without what it was wrapped in by
    `check`."""
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = [
            one for one in node.decorator_list if ast.unparse(one) != "check"
        ]
    return ast.unparse(node)


# ------------------------------------------------------------------------------- to run


def define(parts: list[str], scope: dict[str, Any], name: str) -> Any:
    """What the last part makes of the name; a part before it that fails is left out.
    Only in a cage."""
    for part in parts[:-1]:
        with contextlib.suppress(BaseException):
            exec(compile(part, "notebook", "exec"), scope)
    exec(compile(parts[-1], "notebook", "exec"), scope)
    return scope[name]
