"""The mutants of a source file: cosmic-ray's operators, less what cannot say anything about the tests."""

from __future__ import annotations

import ast
import functools
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]

# What takes the place of a binary operator: its inverse, and one of another kind. `//` is `/` rounded down, and stands
# for `%` too; the operators of bits raise TypeError on floats and tensors of floats, as any test of the line does then.
_BINARY = {
    "Add": ("Sub", "Mul"),
    "Sub": ("Add", "Mul"),
    "Mul": ("Add", "Div"),
    "Div": ("Sub", "Mul", "FloorDiv"),
    "FloorDiv": ("Mul", "Div", "Mod"),
    "Mod": ("Mul", "Div", "FloorDiv"),
    "Pow": ("Add", "Mul"),
    "BitAnd": ("BitOr", "BitXor"),
    "BitOr": ("BitAnd", "BitXor"),
}
# Each differs from the right one in one of three cases, x < y, x == y and x > y; False or True does in the third. What
# tells a comparison from these three tells it from every other, there if not in what comes of it (Kaminski, Ammann and
# Offutt, "Improving logic-based testing", Journal of Systems and Software 86, 2013). `is` compares with None and with
# members of an Enum, where it is `==`.
_COMPARISON = {
    "Eq": ("LtE", "GtE"),
    "NotEq": ("Lt", "Gt"),
    "Lt": ("LtE", "NotEq"),
    "LtE": ("Lt", "Eq"),
    "Gt": ("GtE", "NotEq"),
    "GtE": ("Gt", "Eq"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
_ALWAYS = {"==": False, "<": False, ">": False, "!=": True, "<=": True, ">=": True}
"""What a comparison is replaced by as a whole."""
_OTHERS = (
    "ReplaceComparison",
    "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Not",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)
OPERATORS = (
    *(f"ReplaceBinaryOperator_{one}_{other}" for one, others in _BINARY.items() for other in others),
    *(f"ReplaceComparisonOperator_{one}_{other}" for one, others in _COMPARISON.items() for other in others),
    *_OTHERS,
)


@dataclass(frozen=True)
class Place:
    """What a mutant does, in words that stay the same while the rest of its file is edited."""

    file: str
    """From the root of the repository, with slashes."""
    within: str
    """The qualified name of the function or class; empty for the module itself."""
    line: str
    """The first line that differs, without indentation; of the right source."""
    becomes: str
    """What stands there in the mutant."""


@dataclass(frozen=True)
class Mutant:
    """A source that differs from the right one in one place."""

    place: Place
    nth: int
    """Which of the mutants with this place."""
    operator: str
    number: int
    """Of the line, counted from 1."""
    source: str

    @property
    def name(self) -> str:
        """Of which there is one."""
        place = self.place
        return f"{place.file}:{place.within}: {place.line} -> {place.becomes} #{self.nth}"


def core() -> list[str]:
    """The files that are mutated when none is named."""
    folders = ("radam", "radam/kernels", "reference")
    return [path.relative_to(ROOT).as_posix() for name in folders for path in sorted((ROOT / name).glob("*.py"))]


def mutants(file: str) -> list[Mutant]:
    """All mutants of a file that can be compiled and are another program, in the order of their lines."""
    source = (ROOT / file).read_text()
    within = names(source)
    places: Counter[Place] = Counter()
    result = []
    for before, code, after in _statements(source):
        first = before.count("\n") + 1
        seen = {_program(code)}
        for operator, mutated in sorted(_mutated_codes(code), key=lambda pair: _first_difference(code, pair[1])):
            try:
                program = _program(mutated)
            except SyntaxError:
                continue
            if program in seen:
                continue
            seen.add(program)
            index = _first_difference(code, mutated)
            old, new = code.splitlines(), mutated.splitlines()
            # Without a decorator the lines before it may be gone too.
            index += next((i for i, line in enumerate(old[index:]) if line.strip()), 0)
            becomes = new[index].strip() if len(new) == len(old) else ""
            place = Place(file, within.get(first + index, ""), old[index].strip(), becomes)
            result.append(Mutant(place, places[place], operator, first + index, before + mutated + after))
            places[place] += 1
    return result


def _statements(source: str) -> Iterator[tuple[str, str, str]]:
    """Each top-level statement, with what stands before and after it: it is the sooner looked at by itself."""
    from cosmic_ray.ast import get_ast  # type: ignore[import-not-found, import-untyped, unused-ignore]

    before = ""
    for statement in get_ast(source).children:
        code = statement.get_code()
        yield before, code, source[len(before) + len(code) :]
        before += code


def _first_difference(one: str, other: str) -> int:
    pairs = zip_longest(one.splitlines(), other.splitlines())
    return next(index for index, (x, y) in enumerate(pairs) if x != y)


def _program(source: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.dump(ast.parse(source))


def names(source: str) -> dict[int, str]:
    """The qualified name of the innermost function or class around each line."""
    result: dict[int, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            own = name
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                own = f"{name}.{child.name}".lstrip(".")
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                result.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), own))
            visit(child, own)

    visit(ast.parse(source), "")
    return result


class ReplaceComparison:
    """False for a comparison that holds in one of the three orders of its sides, True for one that holds in two."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[int, int]]:
        if node.type == "comparison" and all(getattr(one, "value", "") in _ALWAYS for one in node.children[1::2]):
            yield node.start_pos

    def mutate(self, node: Any, index: int) -> Any:
        from cosmic_ray.ast import get_ast  # type: ignore[import-not-found, import-untyped, unused-ignore]

        holds = all(_ALWAYS[one.value] for one in node.children[1::2])
        constant = get_ast(str(holds)).children[0]
        constant.prefix = node.get_first_leaf().prefix
        constant.parent = node.parent
        return constant


@functools.cache
def _operator(name: str) -> Any:
    if name == ReplaceComparison.__name__:
        return ReplaceComparison()
    # Imported where it is used: the extra `mutation` brings it, and pytest looks for examples in every module.
    import cosmic_ray.plugins  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return cosmic_ray.plugins.get_operator(f"core/{name}")()


def _mutated_codes(code: str) -> Iterator[tuple[str, str]]:
    """Operators and what they make of a statement."""
    from cosmic_ray.ast import ast_nodes, get_ast  # type: ignore[import-not-found, import-untyped, unused-ignore]

    tree = get_ast(code)
    nodes = list(ast_nodes(tree))
    for name in OPERATORS:
        operator = _operator(name)
        for node in nodes:
            for index, _ in enumerate(list(operator.mutation_positions(node))):
                if not _is_left_out(name, node):
                    with _mutated(operator, node, index, list(ast_nodes(node))):
                        mutated = tree.get_code()
                    if mutated != code:
                        yield name, mutated


@contextmanager
def _mutated(operator: Any, node: Any, index: int, below: list[Any]) -> Iterator[None]:
    """A tree with a mutated node, which is right again afterwards: to parse it anew takes longer."""
    kept = [(one, getattr(one, "value", None), list(getattr(one, "children", []))) for one in below]
    siblings = list(node.parent.children)
    try:
        mutated = operator.mutate(node, index)
    except AttributeError:
        # cosmic-ray takes every exception that is caught for a plain name: one of a module stays as it is.
        mutated = node
    node.parent.children[:] = [mutated if one is node else one for one in siblings if one is not node or mutated]
    try:
        yield
    finally:
        node.parent.children[:] = siblings
        for one, value, children in kept:
            if children:
                one.children[:] = children
            else:
                one.value = value


def _is_left_out(name: str, node: Any) -> bool:
    if name == "AddNot":
        # The opposite of a comparison, and what is left of `not x` without its not, are mutants already.
        condition = node.children[2 if node.type == "test" else 1]
        if condition.type in ("comparison", "not_test"):
            return True
    # zip's `strict` is an assertion: where lengths are the same, as they are, it does nothing.
    if node.parent.type == "argument" and node.parent.children[0].get_code().strip() == "strict":
        return True
    # The mark of keyword-only parameters, which is no operator.
    if node.type == "operator" and node.parent.type == "parameters":
        return True
    child = node
    while child.parent is not None:
        parent = child.parent
        # The texts of messages.
        if parent.type == "fstring":
            return True
        # Annotations are not evaluated (PEP 563), nor are those of NamedTuples.
        if parent.type == "annassign" and child is parent.children[1]:
            return True
        if parent.type == "tfpdef" and child is parent.children[-1]:
            return True
        if parent.type == "param" and child is getattr(parent, "annotation", None):
            return True
        if parent.type == "funcdef" and child is parent.annotation:
            return True
        child = parent
    return False
