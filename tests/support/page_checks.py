"""Checks of a page in a browser."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def check_page(page: Page) -> None:
    """Check that a page has no serious accessibility error or horizontal scroll bar."""
    violations = Axe().run(page).response["violations"]
    serious_violations = [
        (violation["id"], [node["html"][:120] for node in violation["nodes"]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious_violations == []
    overflow_px = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow_px <= 0, f"the page is {overflow_px} px wider than the window"
