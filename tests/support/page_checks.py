"""Checks of a page in a browser."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def check_page(page: Page) -> None:
    """Check that a page has no serious accessibility error, and does not scroll sideways."""
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], [node["html"][:120] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, "the page is wider than the screen"
