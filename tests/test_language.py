"""Tracked text files contain no words that are unclear to a reader of English documentation."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Words without a standard technical meaning, and pronouns for users, who are "they".
WORDS = (
    *("whoever", "nobody", "somebody", "oneself", "one's", "anew", "in earnest", "beside", "bears"),
    *("mend", "mends", "mended", "judge", "judges", "judged", "vanish", "vanishes", "vanished"),
    *("dice", "singly", "is_meant", "his", "him"),
)
# Former names of classes; in lower case they are ordinary words.
NAMES = ("House", "Peers", "Says", "Hint", "Nameless")
ALLOWED = {
    "tests/test_language.py": "lists the words",
    "livebackend/config/deprecated_names.py": "names deprecated settings",
    "tests/config/test_deprecated_settings.py": "uses deprecated settings",
    "livebackend/development/embedded_postgres.py": "names the Unix user nobody",
    "livebackend/static/vendor/": "has the texts of other projects and their licences",
}


def pattern(words: tuple[str, ...], flags: int = 0) -> re.Pattern[str]:
    """Match whole words; an underscore separates the words of an identifier."""
    joined = "|".join(word.replace(" ", r"\s+") for word in words)
    return re.compile(rf"(?<![A-Za-z0-9])(?:{joined})(?![A-Za-z0-9])", flags)


PATTERNS = (pattern(WORDS, re.IGNORECASE), pattern(NAMES))


def words_in(text: str) -> list[str]:
    return [word for words in PATTERNS for word in words.findall(text)]


@pytest.mark.processes
def test_tracked_text_files_contain_none_of_the_words() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    assert "README.md" in names
    wrong = {}
    for name in names:
        path = ROOT / name
        if name.startswith(tuple(ALLOWED)) or not path.is_file():
            continue
        try:
            words = words_in(path.read_text("utf-8"))
        except UnicodeDecodeError:
            continue  # not a text file
        if words:
            wrong[name] = words
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Whoever waits", ["Whoever"]),
        ("known_is_meant", ["is_meant"]),
        ("in\nearnest", ["in\nearnest"]),
        ("class House:", ["House"]),
        ("this house says a hint", []),
        ("history, chime, besides, judgement", []),
    ],
)
def test_words_are_found_as_whole_words_only(text: str, words: list[str]) -> None:
    assert words_in(text) == words
