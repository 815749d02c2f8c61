"""Checks of a page in a browser."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def check_page(page: Page) -> None:
    """Check that a page has no serious accessibility error and no horizontal scroll."""
    violations = Axe().run(page).response["violations"]
    serious = [
        (violation["id"], [node["html"][:120] for node in violation["nodes"]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, f"the page is {overflow} px wider than the window"
