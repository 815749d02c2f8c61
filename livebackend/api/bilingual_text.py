"""A text in English and Chinese."""

from typing import Any, NamedTuple

from pydantic import Field


class BilingualText(NamedTuple):
    """The same text in both languages."""

    english: str
    chinese: str

    @classmethod
    def parse(cls, text: str) -> "BilingualText":
        """Parse a title such as "Gifts · 礼物". Raises ValueError without the separator."""
        english, chinese = text.split(" · ")
        return cls(english, chinese)


def documented_field(english: str, chinese: str, example: Any = None) -> Any:
    """Return a pydantic field with a description in both languages and an example."""
    return Field(
        description=english,
        examples=None if example is None else [example],
        json_schema_extra={"x-zh": chinese},
    )
