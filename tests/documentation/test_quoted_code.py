"""Tests that code in the documentation is part of the programs that the contract tests run."""

import re

import pytest

from tests.support.markdown import DOCS, ROOT, Page

# The programs by the language of the code.
PROGRAMS = {
    "ts": "tests/contract/typescript/story.ts",
    "python": "tests/contract/python/story.py",
    "yaml": "tests/contract/python/config.yml",
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_code_for_generated_clients_is_part_of_a_tested_program(language: str) -> None:
    section = Page(DOCS / "clients.md").section("OpenAPI")
    quotes = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    program = (ROOT / PROGRAMS[language]).read_text("utf-8")
    assert quotes
    for quote in quotes:
        assert quote in program
