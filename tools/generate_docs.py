"""Update the generated tables in docs/: `make docs`.

A page contains the markers `<!-- generated: NAME ARGUMENT … -->` and `<!-- end -->`; this tool
replaces the text between them with the table NAME of `tools.reference_tables`. In a page whose name
ends with `.zh-CN.md`, the texts are translated by docs/zh_CN.po.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from tools import reference_tables
from tools.reference_tables import Translate

ROOT = Path(__file__).parent.parent
TRANSLATIONS = ROOT / "docs" / "zh_CN.po"
TABLES: dict[str, Callable[..., list[str]]] = {
    "operations": reference_tables.operations,
    "extensions": reference_tables.extensions,
    "result-codes": reference_tables.result_codes,
    "error-reasons": reference_tables.error_reasons,
    "events": reference_tables.events,
    "commands": reference_tables.commands,
    "command-help": reference_tables.command_help,
    "settings": reference_tables.settings,
    "new-settings": reference_tables.new_settings,
    "metrics": reference_tables.metrics,
}
# A marker, its table, and the end marker.
_GENERATED_TEXT = re.compile(
    r"^(?P<start><!-- generated: (?P<call>[a-z -]+?) -->\n)(?P<text>.*?)(?P<end><!-- end -->\n)",
    re.MULTILINE | re.DOTALL,
)


class Translations:
    """The Chinese versions of texts in generated tables; `used` has every text that was needed."""

    def __init__(self) -> None:
        with TRANSLATIONS.open("rb") as file:
            self._catalog = read_po(file, locale="zh_CN")
        self.used: dict[str, str] = {}

    def translate(self, text: str) -> str:
        """Return the Chinese version, or an empty string if there is none."""
        message = self._catalog.get(text)
        self.used[text] = str(message.string) if message else ""
        return self.used[text]

    def untranslated(self) -> list[str]:
        """Return the texts that have no Chinese version."""
        return [text for text, chinese in self.used.items() if not chinese]

    def unused(self) -> list[str]:
        """Return the texts that no page needs any more."""
        return [str(message.id) for message in self._catalog if message.id not in {"", *self.used}]

    def write(self) -> None:
        """Add the untranslated texts to the file, and remove the unused ones."""
        catalog = Catalog(locale="zh_CN", charset="utf-8")
        for text, chinese in self.used.items():
            catalog.add(text, chinese)
        with TRANSLATIONS.open("wb") as file:
            write_po(file, catalog, omit_header=True, width=0)


def generate_pages(translations: Translations) -> dict[Path, str]:
    """Return the updated text of every page that contains a marker."""
    pages = {}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        translate = translations.translate if path.name.endswith(".zh-CN.md") else str
        text = path.read_text("utf-8")
        if _GENERATED_TEXT.search(text):
            pages[path] = _with_generated_text(text, translate)
    return pages


def marker_calls(text: str) -> list[list[str]]:
    """Return the table name and the arguments of each marker in a page."""
    return [match["call"].split() for match in _GENERATED_TEXT.finditer(text)]


def _with_generated_text(text: str, translate: Translate) -> str:
    def replacement(match: re.Match[str]) -> str:
        name, *arguments = match["call"].split()
        lines = TABLES[name](translate, *arguments)
        table = "\n".join(lines).strip()
        return f"{match['start']}\n{table}\n\n{match['end']}"

    return _GENERATED_TEXT.sub(replacement, text)


def main() -> None:
    translations = Translations()
    for path, text in generate_pages(translations).items():
        path.write_text(text, "utf-8")
    translations.write()
    if translations.untranslated():
        texts = "\n".join(translations.untranslated())
        sys.exit(f"Translate these texts in docs/zh_CN.po, then run `make docs` again:\n{texts}")


if __name__ == "__main__":
    main()
