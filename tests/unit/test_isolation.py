"""No module and no class holds what a call could write: what callers say stays with them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "runner").rglob("*.py"))

STATELESS = {
    *(
        "APIConnectOptions",
        "AudioFrame",
        "ClientTimeout",
        "Path",
        "RequestKey",
        "Struct",
        "TypeAdapter",
        "TypeVar",
    ),
    *("Weights", "_boot", "bytes", "compile", "frozenset", "getLogger", "getattr", "pack", "range"),
    *("queries", "resolve", "scripts", "timedelta", "tuple"),
}
"""What may be called for a value of a module: its result never changes."""

OF_FIELDS = {"ConfigDict", "Field", "Function", "auto", "field", "_default", "_json", "_now"}
"""What may be called in a class: each object has a value of its own."""

WRITES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("popleft", "remove", "setdefault", "sort", "update"),
}

EXCEPTIONS = {
    "postgres._OWNED": "data folders that this process has locked",
    "providers.sentences.sentences": "a cache of the documents' sentences",
    "rag.pdf._engine": "in the process that reads documents, where no call is",
    "simulator.sound._second": "the hum of a simulated voice",
    "sql.queries": "the files of sql/",
    "providers.sentences._MARKDOWN": "a parser, which keeps nothing between two texts",
    "providers.sentences._TOKENIZER": "the same",
    "rag.chunks._BLOCKS": "the same",
}
"""What a module holds that might change, and why no call shows in it."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "runner").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "runner"


@cache
def states_of(path: Path) -> frozenset[str]:
    return frozenset(f"{name_of(path)}.{name}" for name in states(ast.parse(path.read_text())))


def states(tree: ast.Module) -> Iterator[str]:
    """The names in ``tree`` that hold state, or could."""
    nodes = list(ast.walk(tree))
    written = set(written_names(nodes))
    owners: list[ast.Module | ast.ClassDef] = [tree]
    owners += [node for node in nodes if isinstance(node, ast.ClassDef)]
    for owner in owners:
        for node in owner.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    pass
                case ast.FunctionDef(name=name, decorator_list=decorators) if any(
                    "cache" in ast.unparse(decorator) for decorator in decorators
                ):
                    yield name
                    continue
                case _:
                    continue
            in_class = owner is not tree
            if (name in written and not in_class) or not is_stateless(value, in_class=in_class):
                yield name


def is_stateless(value: ast.expr, *, in_class: bool) -> bool:
    """Displays are constants as long as nobody writes them; a class has no need of one."""
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in STATELESS or (in_class and name in OF_FIELDS)
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp():
            return not in_class
        case _:
            return True


def written_names(nodes: list[ast.AST]) -> Iterator[str]:
    """Names of which something is written in some function: items, methods, ``global``."""
    for node in nodes:
        match node:
            case ast.Global(names=names):
                yield from names
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                if method in WRITES:
                    yield name
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield name
            case ast.AugAssign(target=ast.Name(id=name)) if name.isupper():
                yield name


def foreign_writes(tree: ast.Module) -> Iterator[str]:
    """What is set on a module or a class from outside, such as ``module.name = 1``."""
    nodes = list(ast.walk(tree))
    imported = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store()):
                if name in imported:
                    yield f"{name}.{attribute}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_holds_nothing_that_a_call_writes(path: Path) -> None:
    assert states_of(path) - EXCEPTIONS.keys() == set()
    assert list(foreign_writes(ast.parse(path.read_text()))) == []


def test_every_exception_is_there() -> None:
    assert EXCEPTIONS.keys() - set[str]().union(*map(states_of, MODULES)) == set()


@pytest.mark.parametrize(
    "code",
    [
        "calls = {}\ndef put(x):\n    calls[x] = 1",
        "calls = []\ndef put(x):\n    calls.append(x)",
        "calls: set[str] = set()",
        "calls = deque()",
        "calls = 0\ndef put():\n    global calls\n    calls = 1",
        "class Call:\n    calls = []",
        "@cache\ndef calls(x):\n    return x",
        "calls = contextvars.ContextVar('calls')",
    ],
)
def test_what_a_call_could_write_is_found(code: str) -> None:
    assert list(states(ast.parse(code))) == ["calls"]
