"""Tests that README.zh-CN.md has the same structure and tables as README.md."""

import re

import pytest

from tests.support.application import DEVELOPMENT_INI

ENGLISH_README = DEVELOPMENT_INI.with_name("README.md").read_text("utf-8")
CHINESE_README = DEVELOPMENT_INI.with_name("README.zh-CN.md").read_text("utf-8")

# Indexes of the columns that are not translated, by the first cell of the English table header.
UNTRANSLATED_COLUMNS = {
    "operation": {0, 1, 2, 3, 4},
    "extension": {0, 1, 2, 3, 4},
    "result": {0, 1, 2},
    "second request": set(),
    "setting": {0, 1},
    "promise": {2},
    "measured": set(),
    "gifts per second": {1, 2, 3},
}
DEFAULT_UNTRANSLATED_COLUMNS = {0}


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE)


def tables(text: str) -> list[list[list[str]]]:
    """Return the rows of each table as lists of cells, with the header first."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    # An escaped `|` does not separate cells.
    return [
        [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.splitlines()]
        for block in blocks
    ]


def block_kinds(text: str) -> list[str]:
    """Return the kind of each block, such as heading or table, in document order."""
    kinds_by_first_character = {"#": "heading", "|": "table", "`": "code", "!": "picture"}
    text_without_code = re.sub(r"^```.*?^```$", "```", text, flags=re.DOTALL | re.MULTILINE)
    return [
        kinds_by_first_character.get(block[0], "text")
        for block in re.split(r"\n\n+", text_without_code.strip())
    ]


def test_code_blocks_are_the_same_in_both_readmes() -> None:
    assert code_blocks(CHINESE_README) == code_blocks(ENGLISH_README)


def test_blocks_have_the_same_order_in_both_readmes() -> None:
    assert block_kinds(CHINESE_README) == block_kinds(ENGLISH_README)


@pytest.mark.parametrize("table_index", range(len(tables(ENGLISH_README))))
def test_table_has_the_same_rows_in_both_readmes(table_index: int) -> None:
    english_table, chinese_table = (
        tables(ENGLISH_README)[table_index],
        tables(CHINESE_README)[table_index],
    )
    untranslated_columns = UNTRANSLATED_COLUMNS.get(
        english_table[0][0].strip(), DEFAULT_UNTRANSLATED_COLUMNS
    )

    def untranslated_cells(rows: list[list[str]]) -> list[list[str]]:
        return [
            [row[column].strip() for column in sorted(untranslated_columns)] for row in rows[2:]
        ]

    assert untranslated_cells(chinese_table) == untranslated_cells(english_table)
    for row in chinese_table[2:]:
        assert len(row) == len(english_table[0])
        for column, cell in enumerate(row):
            if column not in untranslated_columns:
                assert not cell.isascii(), (
                    f"README.zh-CN.md: untranslated cell in the row {' | '.join(row)}"
                )


def test_readmes_link_to_each_other() -> None:
    assert "(README.zh-CN.md)" in ENGLISH_README
    assert "(README.md)" in CHINESE_README


def test_pictures_of_both_readmes_exist() -> None:
    for text, language in ((ENGLISH_README, "en"), (CHINESE_README, "zh")):
        pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
        assert pictures
        for picture in pictures:
            assert (DEVELOPMENT_INI.parent / picture).is_file()
            assert f"-{language}-" in picture
