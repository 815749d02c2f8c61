"""Checks that no test uses a private name of the application.

Ruff (SLF001) checks attributes. This module checks imports, and names in strings such as
`monkeypatch.setattr(module, "_name", value)`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGES = {"livebackend", "livebackend_client", "tests"}
FUNCTIONS_THAT_TAKE_NAMES = {"getattr", "setattr", "delattr", "hasattr", "patch", "object"}


def is_private(name: str) -> bool:
    """Return whether a part of a dotted name is private."""
    parts = name.split(".")
    return all(map(str.isidentifier, parts)) and any(
        part.startswith("_") and not part.startswith("__") for part in parts
    )


def imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Return the full names that a statement imports."""
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return (prefix + alias.name for alias in node.names)


def private_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name for name in imported_names(node) if name.partition(".")[0] in PACKAGES]
            yield from filter(is_private, names)
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            name = function.id if isinstance(function, ast.Name) else function
            if name in FUNCTIONS_THAT_TAKE_NAMES:
                texts = [item.value for item in node.args if isinstance(item, ast.Constant)]
                yield from (text for text in texts if isinstance(text, str) and is_private(text))


def test_tests_use_no_private_name() -> None:
    private = {
        str(path.relative_to(TESTS)): names
        for path in TESTS.rglob("*.py")
        if (names := list(private_names(path.read_text("utf-8"))))
    }
    assert private == {}


def test_private_names_in_imports_and_strings_are_detected() -> None:
    source = """
from livebackend.ledger.posting import _helper, post
from livebackend import _private
import livebackend._folder.module
monkeypatch.setattr(module, "_WAIT_S", 1)
monkeypatch.setattr("livebackend.module._WAIT_S", 1)
getattr(services, "_writer")
getattr(services, "writer"); setattr(services, "__doc__", "_ is not a name")
"""
    assert list(private_names(source)) == [
        "livebackend.ledger.posting._helper",
        "livebackend._private",
        "livebackend._folder.module",
        "_WAIT_S",
        "livebackend.module._WAIT_S",
        "_writer",
    ]
