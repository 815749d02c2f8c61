"""Tests that the English and the Chinese version of a page have the same facts."""

import pytest

from tests.support.markdown import DOCS, ROOT, Page, translated_pages

PAIRS = translated_pages()
# Pages that app developers and operators read.
REQUIRED_IN_CHINESE = ("tutorial", "api", "clients", "settings", "operations")

for_each_pair = pytest.mark.parametrize(
    ("english", "chinese"), PAIRS, ids=[english.name for english, _ in PAIRS]
)


def test_pages_for_app_developers_and_operators_have_a_chinese_version() -> None:
    translated_files = {english.path for english, _ in PAIRS}
    required_files = {DOCS / f"{name}.md" for name in REQUIRED_IN_CHINESE} | {ROOT / "README.md"}
    assert required_files <= translated_files


@for_each_pair
def test_versions_link_to_each_other_below_the_title(english: Page, chinese: Page) -> None:
    assert english.targets[0] == chinese.path.name
    assert chinese.targets[0] == english.path.name


@for_each_pair
def test_versions_have_the_same_headings_commands_and_tables(english: Page, chinese: Page) -> None:
    english_shapes = [block.shape for block in english.blocks]
    chinese_shapes = [block.shape for block in chinese.blocks]
    for english_shape, chinese_shape in zip(english_shapes, chinese_shapes, strict=False):
        assert chinese_shape == english_shape
    assert len(chinese_shapes) == len(english_shapes)


@for_each_pair
def test_versions_have_the_same_code_words_numbers_and_links(english: Page, chinese: Page) -> None:
    for english_block, chinese_block in zip(english.blocks, chinese.blocks, strict=True):
        for english_row, chinese_row in zip(english_block.rows, chinese_block.rows, strict=True):
            for english_text, chinese_text in zip(english_row, chinese_row, strict=True):
                assert chinese_text.facts == english_text.facts, (
                    f"{english_text.prose}\n{chinese_text.prose}"
                )


@for_each_pair
def test_every_text_is_translated(english: Page, chinese: Page) -> None:
    untranslated = [
        english_text.prose
        for english_block, chinese_block in zip(english.blocks, chinese.blocks, strict=True)
        if not english_block.generated
        for english_row, chinese_row in zip(english_block.rows, chinese_block.rows, strict=True)
        for english_text, chinese_text in zip(english_row, chinese_row, strict=True)
        if english_text.needs_translation and not chinese_text.is_chinese
    ]
    assert untranslated == []
