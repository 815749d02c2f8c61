"""README.zh-CN.md says what README.md says: the same commands, the same tables, the same order."""

import re

import pytest

from tests.support.application import INI

ENGLISH = INI.with_name("README.md").read_text("utf-8")
CHINESE = INI.with_name("README.zh-CN.md").read_text("utf-8")

# Which of a table's columns are the same in both languages, by the start of its English head;
# what stands in the others is said in Chinese.
SAME_COLUMNS = {
    "operation": {0, 1, 2, 3, 4},
    "extension": {0, 1, 2, 3, 4},
    "result": {0, 1, 2},
    "second request": set(),
    "setting": {0, 1},
    "promise": {2},
    "measured": set(),
    "gifts per second": {1, 2, 3},
}
OTHERS = {0}


def code(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE)


def tables(text: str) -> list[list[list[str]]]:
    """Each table's rows, each a list of its cells; the head is the first."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    # A line between cells may be within code, where it is escaped.
    return [
        [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.splitlines()]
        for block in blocks
    ]


def shape(text: str) -> list[str]:
    """What stands there, in order, without the words."""
    kinds = {"#": "heading", "|": "table", "`": "code", "!": "picture"}
    plain = re.sub(r"^```.*?^```$", "```", text, flags=re.DOTALL | re.MULTILINE)
    return [kinds.get(block[0], "words") for block in re.split(r"\n\n+", plain.strip())]


def test_every_command_is_the_same() -> None:
    assert code(CHINESE) == code(ENGLISH)


def test_it_goes_through_the_same_things_in_the_same_order() -> None:
    assert shape(CHINESE) == shape(ENGLISH)


@pytest.mark.parametrize("number", range(len(tables(ENGLISH))))
def test_a_table_has_the_same_rows(number: int) -> None:
    english, chinese = tables(ENGLISH)[number], tables(CHINESE)[number]
    same = SAME_COLUMNS.get(english[0][0].strip(), OTHERS)

    def neutral(rows: list[list[str]]) -> list[list[str]]:
        return [[row[column].strip() for column in sorted(same)] for row in rows[2:]]

    assert neutral(chinese) == neutral(english)
    for row in chinese[2:]:
        assert len(row) == len(english[0])
        for column, cell in enumerate(row):
            if column not in same:
                assert not cell.isascii(), f"not in Chinese: {' | '.join(row)}"


def test_each_names_the_other() -> None:
    assert "(README.zh-CN.md)" in ENGLISH
    assert "(README.md)" in CHINESE


def test_every_picture_is_there() -> None:
    for text, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
        assert pictures
        for picture in pictures:
            assert (INI.parent / picture).is_file()
            assert f"-{language}-" in picture
