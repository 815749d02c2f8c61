"""Tests that README.zh-CN.md has the same structure and tables as README.md."""

import re

import pytest

from tests.support.application import DEVELOPMENT_INI

ENGLISH = DEVELOPMENT_INI.with_name("README.md").read_text("utf-8")
CHINESE = DEVELOPMENT_INI.with_name("README.zh-CN.md").read_text("utf-8")

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
    # An escaped `|` is part of a cell.
    return [
        [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.splitlines()]
        for block in blocks
    ]


def block_kinds(text: str) -> list[str]:
    """Return the kind of each block of a document, in order."""
    kinds = {"#": "heading", "|": "table", "`": "code", "!": "picture"}
    plain = re.sub(r"^```.*?^```$", "```", text, flags=re.DOTALL | re.MULTILINE)
    return [kinds.get(block[0], "text") for block in re.split(r"\n\n+", plain.strip())]


def test_code_blocks_are_the_same_in_both_readmes() -> None:
    assert code_blocks(CHINESE) == code_blocks(ENGLISH)


def test_blocks_have_the_same_order_in_both_readmes() -> None:
    assert block_kinds(CHINESE) == block_kinds(ENGLISH)


@pytest.mark.parametrize("number", range(len(tables(ENGLISH))))
def test_table_has_the_same_rows_in_both_readmes(number: int) -> None:
    english, chinese = tables(ENGLISH)[number], tables(CHINESE)[number]
    untranslated = UNTRANSLATED_COLUMNS.get(english[0][0].strip(), DEFAULT_UNTRANSLATED_COLUMNS)

    def untranslated_cells(rows: list[list[str]]) -> list[list[str]]:
        return [[row[column].strip() for column in sorted(untranslated)] for row in rows[2:]]

    assert untranslated_cells(chinese) == untranslated_cells(english)
    for row in chinese[2:]:
        assert len(row) == len(english[0])
        for column, cell in enumerate(row):
            if column not in untranslated:
                assert not cell.isascii(), (
                    f"README.zh-CN.md: untranslated cell in the row {' | '.join(row)}"
                )


def test_readmes_link_to_each_other() -> None:
    assert "(README.zh-CN.md)" in ENGLISH
    assert "(README.md)" in CHINESE


def test_pictures_of_both_readmes_exist() -> None:
    for text, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
        assert pictures
        for picture in pictures:
            assert (DEVELOPMENT_INI.parent / picture).is_file()
            assert f"-{language}-" in picture
