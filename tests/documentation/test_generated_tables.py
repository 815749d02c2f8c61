"""Tests that the generated tables are current and complete."""

from pathlib import Path

import pytest

from livebackend.config.settings import Settings
from tests.support.markdown import documentation_pages
from tools.generate_docs import TABLES, Translations, generate_pages, marker_calls
from tools.reference_tables import setting_prefixes

TRANSLATIONS = Translations()
PAGES = generate_pages(TRANSLATIONS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_generated_tables_are_current(path: Path) -> None:
    assert path.read_text("utf-8") == PAGES[path], "run `make docs`"


def test_every_text_of_the_tables_has_a_chinese_version() -> None:
    assert TRANSLATIONS.untranslated() == []


def test_translations_contain_no_unused_text() -> None:
    assert TRANSLATIONS.unused() == [], "run `make docs`"


def test_each_table_is_in_a_page() -> None:
    names_in_pages = {
        name for page in documentation_pages() for name, *_ in marker_calls(page.text)
    }
    assert names_in_pages == TABLES.keys()


@pytest.mark.parametrize("path", [path for path in PAGES if path.name.startswith("settings")])
def test_settings_page_lists_each_setting_once(path: Path) -> None:
    prefixes = [
        prefix
        for name, *arguments in marker_calls(PAGES[path])
        if name == "settings"
        for prefix in arguments
    ]
    assert sorted(prefixes) == sorted(setting_prefixes())
    for name in Settings.fields_by_name():
        assert PAGES[path].count(f"\n| `{name}` |") == 1
