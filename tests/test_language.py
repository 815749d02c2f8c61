"""Tests that tracked text files contain none of the forbidden words."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Words without a standard technical meaning, and singular pronouns for users.
UNCLEAR_WORDS = (
    *("whoever", "nobody", "somebody", "oneself", "one's", "anew", "in earnest", "beside", "bears"),
    *("mend", "mends", "mended", "judge", "judges", "judged", "vanish", "vanishes", "vanished"),
    *("dice", "singly", "is_meant", "his", "him"),
)
# Former class names; the pattern is case-sensitive, because the lower-case words are allowed.
FORMER_CLASS_NAMES = ("House", "Peers", "Says", "Hint", "Nameless")
# This file lists the words, the vendor directory has the texts of other projects, and the hashes of
# the lock file can contain any short word.
SKIPPED = (
    *("tests/test_language.py", "livebackend/static/vendor/"),
    "tests/contract/typescript/package-lock.json",
)
# Words that a file must contain: the names of deprecated settings, and the Unix user `nobody`.
ALLOWED_WORDS = {
    "docs/upgrading.md": {"is_meant"},
    "livebackend/config/deprecated_names.py": {"is_meant"},
    "livebackend/development/embedded_postgres.py": {"nobody"},
}
# A phrase can be wrapped over lines of a comment, which start with a comment character.
SPACE = r"\s+(?:(?:#|//|\*|--)\s+)?"


def word_pattern(words: tuple[str, ...], flags: int = 0) -> re.Pattern[str]:
    """Return a pattern that matches the words only as whole words.

    An underscore also separates words. An apostrophe can be typographic.
    """
    alternatives = "|".join(words).replace(" ", SPACE).replace("'", r"['\u2019]")
    return re.compile(rf"(?<![A-Za-z0-9])(?:{alternatives})(?![A-Za-z0-9])", flags)


PATTERNS = (word_pattern(UNCLEAR_WORDS, re.IGNORECASE), word_pattern(FORMER_CLASS_NAMES))


def unclear_words(text: str) -> list[str]:
    # CamelCase names are split, so that their words are found, too.
    split_text = re.sub("(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [word for pattern in PATTERNS for word in pattern.findall(split_text)]


def decode(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        pytest.fail(f"{name} is neither a binary file nor UTF-8")


@pytest.mark.processes
def test_tracked_text_files_contain_no_unclear_word() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    file_names = [name for name in listing.stdout.decode().split("\0") if name]
    assert {"README.md", *ALLOWED_WORDS} <= set(file_names)
    found_by_file = {}
    for name in file_names:
        path = ROOT / name
        if name.startswith(SKIPPED) or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" in content:
            continue  # binary files are not checked
        words = {word.lower() for word in unclear_words(decode(name, content))}
        if words:
            found_by_file[name] = words
    assert found_by_file == ALLOWED_WORDS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Whoever waits", ["Whoever"]),
        ("known_is_meant", ["is_meant"]),
        ("in\nearnest", ["in\nearnest"]),
        ("in\n    # earnest", ["in\n    # earnest"]),
        ("one's and one\u2019s", ["one's", "one\u2019s"]),
        ("class House:", ["House"]),
        ("class TicketJudge:", ["Judge"]),
        ("this house says a hint", []),
        ("history, chime, besides, judgement", []),
    ],
)
def test_words_are_found_as_whole_words_only(text: str, words: list[str]) -> None:
    assert unclear_words(text) == words
