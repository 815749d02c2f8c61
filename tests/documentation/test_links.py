"""Tests that the links of the documentation lead somewhere."""

import pytest

from tests.support.markdown import ROOT, Page, documentation_pages

PAGES = documentation_pages()


def exists(target: str, page: Page) -> bool:
    """Return whether a link leads to a file of the repository, and to a heading in it."""
    path, _, anchor = target.partition("#")
    linked_file = (page.path.parent / path).resolve() if path else page.path
    if not (linked_file.is_relative_to(ROOT.resolve()) and linked_file.exists()):
        return False
    return not anchor or anchor in Page(linked_file).anchors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_existing_files_and_headings(page: Page) -> None:
    broken_targets = [
        target
        for target in page.targets
        if not target.startswith(("https://", "http://")) and not exists(target, page)
    ]
    assert broken_targets == []


def test_every_page_is_linked_from_another_page() -> None:
    linked_files = {
        (page.path.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in page.targets
        if not target.startswith(("https://", "http://", "#"))
    }
    assert [page.name for page in PAGES if page.path.resolve() not in linked_files] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_external_links_are_complete_addresses(page: Page) -> None:
    external_targets = [target for target in page.targets if "//" in target]
    assert all(
        target.startswith(("https://", "http://127.0.0.1:6543")) for target in external_targets
    )
