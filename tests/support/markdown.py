"""Parsed Markdown pages: blocks, headings, links, and the facts that both languages must have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from tests.support.application import DEVELOPMENT_INI

ROOT = DEVELOPMENT_INI.parent
DOCS = ROOT / "docs"
CHINESE_SUFFIX = ".zh-CN.md"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CHINESE_CHARACTER = re.compile("[\u4e00-\u9fff]")
# Two words, because a single one can be the name of a program.
_ENGLISH_WORDS = re.compile(r"\b[a-z]{3,} [a-z]{3,}\b")


@dataclass(frozen=True)
class Facts:
    """What a text and its translation have in common."""

    code: frozenset[str]
    numbers: frozenset[str]
    # Link targets without anchors; a link to a Chinese page counts as a link to the English page.
    links: frozenset[str]


@dataclass(frozen=True)
class Text:
    """A paragraph, a heading, a list item or a table cell."""

    node: SyntaxTreeNode

    @property
    def facts(self) -> Facts:
        nodes = list(self.node.walk())
        return Facts(
            code=frozenset(node.content for node in nodes if node.type == "code_inline"),
            numbers=frozenset(number.replace(",", "") for number in _NUMBER.findall(self.prose)),
            links=frozenset(map(_language_independent, _targets(nodes))),
        )

    @property
    def prose(self) -> str:
        """The text without code."""
        return "".join(node.content for node in self.node.walk() if node.type == "text")

    @property
    def is_chinese(self) -> bool:
        return bool(_CHINESE_CHARACTER.search(self.prose))

    @property
    def needs_translation(self) -> bool:
        return bool(_ENGLISH_WORDS.search(self.prose))


@dataclass(frozen=True)
class Block:
    """A top-level block of a page, such as a heading or a table."""

    node: SyntaxTreeNode
    # Whether `make docs` writes the block.
    generated: bool

    @property
    def shape(self) -> tuple[object, ...]:
        """What is equal in both languages: type, level, number of items or rows, code."""
        if self.node.type in {"fence", "html_block"}:
            return self.node.type, self.node.info, self.node.content
        return self.node.type, self.node.tag, tuple(len(text_row) for text_row in self.rows)

    @property
    def rows(self) -> list[list[Text]]:
        """The texts of the block: the cells of each table row, the items of a list, or one text."""
        if self.node.type == "table":
            table_rows = [node for node in self.node.walk() if node.type == "tr"]
            return [[Text(cell) for cell in row.children] for row in table_rows]
        if self.node.type in {"bullet_list", "ordered_list"}:
            return [[Text(item)] for item in self.node.children]
        return [[Text(self.node)]]


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def blocks(self) -> list[Block]:
        blocks = []
        generated = False
        for node in _parse(self.text).children:
            if node.type == "html_block" and node.content.startswith("<!-- generated"):
                generated = True
            elif node.type == "html_block" and node.content.startswith("<!-- end"):
                generated = False
            blocks.append(Block(node, generated))
        return blocks

    @property
    def headings(self) -> list[tuple[str, str]]:
        """The tag and the text of each heading."""
        return [
            (block.node.tag, "".join(_plain_text(block.node)))
            for block in self.blocks
            if block.node.type == "heading"
        ]

    @property
    def anchors(self) -> set[str]:
        """The anchors of the headings, as GitHub generates them."""
        anchors: set[str] = set()
        for _, heading in self.headings:
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            repetition = 0
            while (anchor := f"{slug}-{repetition}" if repetition else slug) in anchors:
                repetition += 1
            anchors.add(anchor)
        return anchors

    @property
    def targets(self) -> list[str]:
        """The targets of all links and pictures."""
        return list(_targets(list(_parse(self.text).walk())))

    def section(self, heading: str) -> str:
        """Return the source text below a heading of level 2."""
        _, found, rest = self.text.partition(f"\n## {heading}\n")
        assert found, f"{self.name} has no section {heading}"
        return rest.partition("\n## ")[0]

    def fences(self, language: str) -> list[str]:
        """Return the code of the fenced blocks of a language."""
        return [
            node.content
            for node in _parse(self.text).walk()
            if node.type == "fence" and node.info == language
        ]


def documentation_pages() -> list[Page]:
    """Return README.md, the other pages of the top-level folder, and all pages in docs/."""
    return [Page(path) for path in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])]


def translated_pages() -> list[tuple[Page, Page]]:
    """Return each English page that has a Chinese version, with that version."""
    return [
        (Page(page.path.with_name(page.path.name.replace(CHINESE_SUFFIX, ".md"))), page)
        for page in documentation_pages()
        if page.name.endswith(CHINESE_SUFFIX)
    ]


@lru_cache(maxsize=64)
def _parse(text: str) -> SyntaxTreeNode:
    return SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(text))


def _targets(nodes: list[SyntaxTreeNode]) -> Iterator[str]:
    for node in nodes:
        if node.type == "link":
            yield unquote(str(node.attrs["href"]))
        elif node.type == "image":
            yield unquote(str(node.attrs["src"]))


def _language_independent(target: str) -> str:
    path = target.partition("#")[0] if not target.startswith("http") else target
    return path.replace(CHINESE_SUFFIX, ".md").replace("-zh-", "-en-")


def _plain_text(node: SyntaxTreeNode) -> Iterator[str]:
    for child in node.walk():
        if child.type in {"text", "code_inline"}:
            yield child.content
