"""One-step mistakes, made from a right answer: another operator, constant, comparison,
sign, axis, rounding or order, or a line left out."""

import ast
import copy
from collections.abc import Iterator

OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Div,),
    ast.Pow: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {  # of functions and methods
    "sum": ("mean",),
    "mean": ("sum",),
    "max": ("min",),
    "min": ("max",),
    "amax": ("amin",),
    "amin": ("amax",),
    "argmax": ("argmin",),
    "argmin": ("argmax",),
    "any": ("all",),
    "all": ("any",),
    "round": ("floor", "ceil"),
    "zeros_like": ("ones_like",),
    "ones_like": ("zeros_like",),
    "softmax": ("log_softmax",),
    "log_softmax": ("softmax",),
}
EITHER_WAY = ("zip", "max", "min", "maximum", "minimum", "eq", "equal", "transpose")


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the whole source) of each one-step change of a function."""
    tree = ast.parse(source)
    count = sum(1 for _ in ast.walk(tree))
    seen = {ast.unparse(tree)}
    for place in range(count):
        for number in range(20):
            changed = copy.deepcopy(tree)
            node = next(n for i, n in enumerate(ast.walk(changed)) if i == place)
            parent = _parent(changed, node)
            said = _change(node, parent, number)
            if said is None:
                break
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text not in seen:
                seen.add(text)
                yield said, text


def _parent(tree: ast.AST, node: ast.AST) -> ast.AST:
    return next(
        (
            each
            for each in ast.walk(tree)
            if any(child is node for child in ast.iter_child_nodes(each))
        ),
        tree,
    )


def _change(node: ast.AST, parent: ast.AST, number: int) -> str | None:
    """Make the change of this number to a node; None when there are no more."""
    changes = list(_changes(node, parent))
    if number >= len(changes):
        return None
    before = ast.unparse(_shown(node, parent))
    if isinstance(left_out := changes[number](), str):
        return f"{left_out} -> left out"
    after = ast.unparse(ast.fix_missing_locations(_shown(node, parent)))
    return f"{before} -> {after}"


def _shown(node: ast.AST, parent: ast.AST) -> ast.AST:
    """What is shown of a change: an operator and the like with what it is in."""
    small = (
        ast.operator,
        ast.cmpop,
        ast.boolop,
        ast.unaryop,
        ast.Constant,
        ast.keyword,
    )
    return parent if isinstance(node, small) else node


def _changes(node: ast.AST, parent: ast.AST) -> Iterator:
    """Functions that each make one change to a node in place."""
    yield from _operators(node)
    minus = isinstance(parent, ast.UnaryOp)  # -1 as an axis: the minus is taken off
    strict = isinstance(parent, ast.keyword) and parent.arg == "strict"
    if isinstance(node, ast.Constant) and not (
        minus or strict or isinstance(parent, ast.Expr)
    ):
        yield from _constants(node)
    if isinstance(node, ast.UnaryOp):
        yield lambda: _replace(parent, node, node.operand)
    if isinstance(node, ast.Call):
        yield from _calls(node, parent)
    for name in ("body", "orelse"):
        block = getattr(node, name, None)
        for i, line in enumerate(block if isinstance(block, list) else ()):
            if not isinstance(line, (ast.Return, ast.FunctionDef)) and not _docs(line):
                yield lambda block=block, i=i: _leave_out(block, i)


def _leave_out(block: list, place: int) -> str:
    """Leave out a line; what it was."""
    line = ast.unparse(block[place])
    block[place] = ast.Pass()
    return line


def _docs(line: ast.AST) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def _operators(node: ast.AST) -> Iterator:
    for field in ("op", "ops"):
        kept = getattr(node, field, None)
        for i, op in enumerate(kept if isinstance(kept, list) else [kept]):
            for other in OPERATORS.get(type(op), ()):

                def change(kept=kept, i=i, other=other, field=field) -> None:
                    if isinstance(kept, list):
                        kept[i] = other()
                    else:
                        setattr(node, field, other())

                yield change


def _constants(node: ast.Constant) -> Iterator:
    value = node.value
    others: tuple = ()
    if isinstance(value, bool):
        others = (not value,)
    elif isinstance(value, int):
        others = (value + 1, value - 1)
    elif isinstance(value, float):
        others = (value + 1, value / 2 if value else -1.0)
    for other in others:
        yield lambda other=other: setattr(node, "value", other)


def _calls(node: ast.Call, parent: ast.AST) -> Iterator:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    for other in NAMES.get(name, ()):

        def rename(other=other) -> None:
            if isinstance(node.func, ast.Attribute):
                node.func.attr = other
            else:  # round(x): the others are in torch and in math
                target = ast.Attribute(ast.Name("math", ast.Load()), other, ast.Load())
                node.func = target if name == "round" else ast.Name(other, ast.Load())

        yield rename
    if isinstance(node.func, ast.Attribute) and name in ("abs", "flatten", "argsort"):
        inner = node.func.value
        if not (isinstance(inner, ast.Name) and inner.id in ("torch", "np", "math")):
            yield lambda: _replace(parent, node, inner)
    if len(node.args) == 2 and name not in EITHER_WAY:
        yield node.args.reverse
    for i, keyword in enumerate(node.keywords):
        if keyword.arg != "strict":
            yield lambda i=i: node.keywords.pop(i)


def _replace(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for field, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, field, new)
        elif isinstance(value, list):
            value[:] = [new if each is old else each for each in value]
