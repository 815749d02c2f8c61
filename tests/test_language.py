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
EXEMPT_FILES = {
    "tests/test_language.py": "lists the words",
    "livebackend/config/deprecated_names.py": "names deprecated settings",
    "tests/config/test_deprecated_settings.py": "uses deprecated settings",
    "livebackend/development/embedded_postgres.py": "names the Unix user nobody",
    "livebackend/static/vendor/": "has the texts of other projects and their licences",
}


def word_pattern(words: tuple[str, ...], flags: int = 0) -> re.Pattern[str]:
    """Return a pattern that matches the words only as whole words.

    An underscore also separates words.
    """
    alternatives = "|".join(word.replace(" ", r"\s+") for word in words)
    return re.compile(rf"(?<![A-Za-z0-9])(?:{alternatives})(?![A-Za-z0-9])", flags)


PATTERNS = (word_pattern(UNCLEAR_WORDS, re.IGNORECASE), word_pattern(FORMER_CLASS_NAMES))


def unclear_words(text: str) -> list[str]:
    return [word for pattern in PATTERNS for word in pattern.findall(text)]


@pytest.mark.processes
def test_tracked_text_files_contain_no_unclear_word() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    file_names = [name for name in listing.stdout.decode().split("\0") if name]
    assert "README.md" in file_names
    found_by_file = {}
    for name in file_names:
        path = ROOT / name
        if name.startswith(tuple(EXEMPT_FILES)) or not path.is_file():
            continue
        try:
            words = unclear_words(path.read_text("utf-8"))
        except UnicodeDecodeError:
            continue  # binary files are not checked
        if words:
            found_by_file[name] = words
    assert found_by_file == {}


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
    assert unclear_words(text) == words
