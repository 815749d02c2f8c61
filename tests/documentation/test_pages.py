"""Tests of the content and the form of single pages."""

import re
from importlib.metadata import version
from pkgutil import resolve_name

import pytest

from livebackend.config.deprecated_names import RENAMED_SETTINGS
from tests.support.markdown import DOCS, ROOT, Page, documentation_pages

PAGES = documentation_pages()
RECORDS = [Page(path) for path in sorted((DOCS / "decisions").glob("[0-9]*.md"))]
RECORD_SECTIONS = ["Context", "Decision", "Consequences", "Measured price"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_complete(page: Page) -> None:
    assert not re.search(r"\b(TODO|FIXME|TBD|XXX)\b", page.text)
    headings = page.headings
    assert [tag for tag, _ in headings].count("h1") == 1
    assert headings[0][0] == "h1"
    # A heading is followed by a text, or by a heading of a lower level.
    blocks = [block.node for block in page.blocks]
    for node, next_node in zip(blocks, [*blocks[1:], None], strict=True):
        if node.type == "heading":
            assert next_node, page.name
            assert next_node.type != "heading" or next_node.tag > node.tag


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_has_at_most_150_lines(name: str) -> None:
    assert len((ROOT / name).read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_links_to_every_page_of_its_language(name: str) -> None:
    linked_names = {target.partition("#")[0] for target in Page(ROOT / name).targets}
    for english_name in (path.relative_to(ROOT).as_posix() for path in DOCS.glob("*.md")):
        if english_name.endswith(".zh-CN.md"):
            continue
        chinese_name = english_name.replace(".md", ".zh-CN.md")
        has_chinese = (ROOT / chinese_name).exists()
        expected_name = chinese_name if "zh-CN" in name and has_chinese else english_name
        assert expected_name in linked_names


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.path.name)
def test_decision_record_has_all_sections_on_one_page(record: Page) -> None:
    (_, title), *sections = record.headings
    number = int(record.path.name.partition("-")[0])
    assert title.startswith(f"{number}. ")
    assert [heading for _, heading in sections] == RECORD_SECTIONS
    assert len(record.text.splitlines()) <= 60


def test_decision_records_are_numbered_without_gaps_and_listed() -> None:
    names = [record.path.name for record in RECORDS]
    assert [int(name.partition("-")[0]) for name in names] == list(range(1, len(names) + 1))
    for index in ("README.md", "README.zh-CN.md"):
        assert [
            target for target in Page(DOCS / "decisions" / index).targets if target[0].isdigit()
        ] == names


def test_architecture_page_lists_every_package_and_only_existing_files() -> None:
    section = Page(DOCS / "architecture.md").section("Code layout")
    documented_paths = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", section))
    assert [path for path in documented_paths if not (ROOT / path).exists()] == []
    package = ROOT / "livebackend"
    packages = {f"livebackend/{path.parent.name}/" for path in package.glob("*/__init__.py")}
    modules = {f"livebackend/{path.name}" for path in package.glob("*.py")}
    assert packages | modules <= documented_paths


def test_stream_gateways_in_the_streaming_page_exist() -> None:
    text = Page(DOCS / "streaming.md").text
    gateway_names = re.findall(r"^\| `(livebackend[\w.]+)` \|", text, re.MULTILINE)
    assert len(gateway_names) == 4
    for name in gateway_names:
        assert resolve_name(name).from_settings


def test_tests_of_ledger_guarantees_in_the_coins_page_exist() -> None:
    test_sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = Page(DOCS / "coins.md").text
    (table,) = re.findall(r"^\| promise \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    rows = table.splitlines()[2:]
    names_by_row = [re.findall("`([^`]+)`", row.split(" | ")[-1]) for row in rows if row]
    assert len(names_by_row) > 5
    for names in names_by_row:
        assert names
        for name in names:
            if name.startswith("make "):
                assert f"\n{name.removeprefix('make ')}:" in makefile
            else:
                assert f"def {name}(" in test_sources, name


def test_installed_version_is_in_the_changelog_and_in_the_upgrading_page() -> None:
    installed_version = version("livebackend")
    assert f"\n## {installed_version} - 20" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    table = Page(DOCS / "upgrading.md").section("Versions")
    assert re.search(
        rf"^\| {re.escape(installed_version)} \| [0-9a-f]{{7,}} \|", table, re.MULTILINE
    )


def test_upgrading_page_lists_every_renamed_setting() -> None:
    text = Page(DOCS / "upgrading.md").text
    for old_name, new_name in RENAMED_SETTINGS.items():
        assert f"| `{old_name}` | `{new_name}` |" in text
