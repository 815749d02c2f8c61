"""Parts of Python source texts: names, types, descriptions, the format of modules."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

PACKAGE = Path(__file__).parent.parent.parent / "clients" / "python" / "livebackend_client"

_DOCSTRING_WIDTH = 93
_NAMES = {None: "None", NoneType: "None", Any: "Any", str: "str"}


def snake_case(name: str) -> str:
    """Return the Python name of a name in the API, such as `user_id` for `userId`."""
    return re.sub("(?<=[a-z0-9])[A-Z]", lambda match: f"_{match[0].lower()}", name)


def python_names(text: str) -> str:
    """Return a description with Python names instead of names in camel case and null."""
    text = re.sub("[a-z]+(?:[A-Z][a-z0-9]+)+", lambda match: snake_case(match[0]), text)
    return re.sub(r"\bnull\b", "None", text)


def type_source(value_type: Any, *, text_type: str = "str") -> str:
    """Return the source text of a type; `text_type` replaces `str`.

    For a string that contains JSON, this is the type of the parsed value.
    """
    origin, arguments = get_origin(value_type), get_args(value_type)
    if origin is Annotated:
        is_time = "ISO 8601" in description(value_type)
        return type_source(arguments[0], text_type="datetime" if is_time else text_type)
    if value_type in _NAMES:
        return text_type if value_type is str else _NAMES[value_type]
    if origin in (UnionType, Union):
        return " | ".join(type_source(argument, text_type=text_type) for argument in arguments)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(map(type_source, arguments))}]"
    return str(value_type.__name__)


def description(value_type: Any) -> str:
    """Return the English description of an annotated type, with Python names, or ""."""
    texts = [
        metadata.description
        for metadata in getattr(value_type, "__metadata__", ())
        if isinstance(metadata, FieldInfo) and metadata.description
    ]
    return python_names(texts[-1]) if texts else ""


def docstring(*paragraphs: str, indent: str) -> str:
    """Return a docstring with wrapped paragraphs; lines in a paragraph stay separate."""
    text = "\n\n".join(filter(None, paragraphs))
    lines = [
        wrapped_line
        for line in text.splitlines()
        for wrapped_line in textwrap.wrap(line, _DOCSTRING_WIDTH - len(indent)) or [""]
    ]
    ending = "" if len(lines) == 1 else f"\n{indent}"
    return textwrap.indent(f'"""{chr(10).join(lines)}{ending}"""\n', indent)


def sentence(text: str) -> str:
    """Return a description as a sentence, with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def formatted(file_name: str, source: str) -> str:
    """Return a source text in the format of the repository, without unused imports."""
    path_option = f"--stdin-filename={PACKAGE / file_name}"
    for command in (["check", "--fix-only", "--select=F401,I"], ["format"]):
        source = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", path_option, "-"],
            input=source,
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=60,
        ).stdout
    return source
