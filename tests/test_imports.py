"""Imports run one way: whoever reads a layer need not know the ones above."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import livebackend

ROOT = Path(livebackend.__file__).parent

# What each part may import of ours, besides its own.
ALLOWED = {
    "results": set(),
    "logs": set(),
    "signing": set(),
    "settings": set(),
    "models": set(),
    "embedded_postgres": set(),
    "form": {"results"},
    "replies": set(),
    "prepared": set(),
    "db": {"embedded_postgres", "results", "settings"},
    "migrate": {"db", "settings"},
    "gateways": {"results", "settings", "signing"},
    "limits": {"db", "prepared", "results"},
    "services": {"models", "results", "gateways", "db", "limits", "prepared", "signing"},
    "ledger_writer": {"db", "results", "services"},
    "sweeper": {"db", "results", "services"},
    "params": {"form", "results"},
    "request": {
        *("db", "form", "gateways", "ledger_writer", "limits", "results", "services"),
        *("settings", "sweeper"),
        # For their types alone.
        *("operation", "security"),
    },
    "check": {"db", "gateways", "migrate", "settings"},
    "health": {"db", "migrate", "settings"},
    "doctor": {"db", "gateways", "health", "settings"},
    "metrics": set(),
    "metrics_listener": {"settings"},
    "watch": {"health", "metrics", "request"},
    "security": {"results", "services", "signing"},
    "transport": {"logs", "request", "results", "routes"},
    "operation": {"params", "request", "results", "services"},
    "routes": {"form", "operation", "request", "results", "settings"},
    "openapi": {"operation", "params", "results", "routes"},
    "pages": {"openapi", "operation", "settings"},
    "views": {"form", "operation", "params", "replies", "results", "services"},
}
# Those who put everything together.
TOPS = {"__init__", "app", "cli"}
# What only some may import of others.
WEB = {"pyramid", "venusian", "webob", "waitress", "granian"}
SQL = {"sqlalchemy", "psycopg2", "alembic"}

FILES = sorted(ROOT.rglob("*.py"))


def part(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(file: Path) -> set[str]:
    """The parts of ours that a file imports."""
    names = [name.split(".") for name in imports(file)]
    return {name[1] for name in names if name[0] == "livebackend" and len(name) > 1} - {part(file)}


def theirs(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)} - {"livebackend"}


def test_every_part_is_known() -> None:
    assert {part(file) for file in FILES} == ALLOWED.keys() | TOPS


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_part_imports_only_what_lies_below(file: Path) -> None:
    if part(file) not in TOPS:
        assert ours(file) <= ALLOWED[part(file)]


def test_nothing_goes_round() -> None:
    below = {name: set(others) for name, others in ALLOWED.items()}
    below["request"] -= {"operation", "security"}  # not at run time
    while below:
        lowest = {name for name, others in below.items() if not others & below.keys()}
        assert lowest, f"these import each other: {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in lowest}


def test_requests_types_are_not_imported_at_run_time() -> None:
    tree = ast.parse((ROOT / "request.py").read_text("utf-8"))
    at_top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not at_top & {"livebackend.operation", "livebackend.security"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_each_layer_keeps_to_its_own_libraries(file: Path) -> None:
    used = theirs(file)
    if part(file) in (
        "services",
        "models",
        "gateways",
        "results",
        "settings",
        "params",
        "replies",
    ):
        assert not used & WEB
    if part(file) in (
        "views",
        "gateways",
        "results",
        "settings",
        "params",
        "form",
        "replies",
    ):
        # What went wrong in the database is known to those who answer for it.
        assert not used & SQL or file.name == "errors.py"


def test_views_touch_neither_models_nor_gateways() -> None:
    for file in FILES:
        if part(file) == "views":
            assert not ours(file) & {"models", "gateways", "db"}


def test_one_service_is_no_other_ones_secret() -> None:
    """Names with an underscore stay in their file."""
    for file in FILES:
        for name in imports(file):
            last = name.rpartition(".")[2]
            assert not (name.startswith("livebackend") and last.startswith("_")), (file, name)
