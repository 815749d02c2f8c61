"""Checks of a page in a browser."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# WCAG 2.2, success criterion 2.5.8 (AA), without its exceptions.
MIN_TARGET_PX = 24
# The target of a hidden input is its label. The tolerance is for fractions of a pixel.
_FIND_SMALL_TARGETS = """minimum => [...document.querySelectorAll(
        "a[href], button, input, select, textarea, summary, [tabindex='0']"
    )]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }))
    .map((node) => (node.classList.contains("visually-hidden") ? node.labels[0] : node))
    .filter((node) => {
        const { width, height } = node.getBoundingClientRect();
        return Math.min(width, height) < minimum - 0.05;
    })
    .map((node) => node.outerHTML.slice(0, 120))"""


def check_page(page: Page) -> None:
    """Check that a page has no accessibility violation and no horizontal scroll bar."""
    violations = [
        (violation["id"], violation["impact"], [node["html"][:120] for node in violation["nodes"]])
        for violation in Axe().run(page).response["violations"]
    ]
    assert violations == []
    overflow_px = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow_px <= 0, f"the page is {overflow_px} px wider than the window"


def check_target_sizes(page: Page) -> None:
    """Check that every visible control has at least 24 x 24 CSS pixels."""
    assert page.evaluate(_FIND_SMALL_TARGETS, MIN_TARGET_PX) == []
