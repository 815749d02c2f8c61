"""Tests that no test uses a private name of the application.

Ruff (SLF001) checks attributes. This module checks imports, and names in strings such as
`monkeypatch.setattr(module, "_name", value)`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

TEST_FOLDER = Path(__file__).parent
CHECKED_PACKAGES = {"livebackend", "livebackend_client", "tests"}
FUNCTIONS_THAT_TAKE_NAMES = {"getattr", "setattr", "delattr", "hasattr", "patch", "object"}


def is_private(name: str) -> bool:
    """Return whether any part of a dotted name is private, such as `_b` in `a._b.c`."""
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
            names = [
                name for name in imported_names(node) if name.partition(".")[0] in CHECKED_PACKAGES
            ]
            yield from filter(is_private, names)
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            name = function.id if isinstance(function, ast.Name) else function
            if name in FUNCTIONS_THAT_TAKE_NAMES:
                constants = [
                    argument.value for argument in node.args if isinstance(argument, ast.Constant)
                ]
                yield from (
                    text for text in constants if isinstance(text, str) and is_private(text)
                )


def test_tests_use_no_private_name() -> None:
    private_names_by_file = {
        str(path.relative_to(TEST_FOLDER)): names
        for path in TEST_FOLDER.rglob("*.py")
        if (names := list(private_names(path.read_text("utf-8"))))
    }
    assert private_names_by_file == {}


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
