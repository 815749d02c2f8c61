"""/docs in a browser: a form sends the real request, and what comes back is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Locator, Page, expect

from livebackend.api.result_codes import Result
from tests.support.api import PASSWORD
from tests.support.page_checks import check_page
from tests.support.servers import Server

pytestmark = pytest.mark.processes


def opened(page: Page) -> None:
    page.goto("/docs")
    page.wait_for_selector("body[data-ready]")


def send(page: Page, operation: str, **fields: str) -> Locator:
    """Fills a form and sends it; returns where the reply is shown."""
    section = page.locator(f"#{operation}")
    for name, value in fields.items():
        section.locator(f'[name="{name}"]').fill(value)
    section.locator("form button").click()
    return section.locator(".came")


def test_somebody_reads_and_tries(
    page: Page, language: str, size: str, keep: Callable[[str], None], tmp_path: Path
) -> None:
    opened(page)
    heading = {"en": "API of the live-streaming app", "zh": "直播应用的后端接口"}[language]
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    keep(f"docs-{language}-{size}")
    # Each of the four has a phone of its own on the one server.
    phone = f"1380000{['en', 'zh'].index(language)}{['phone', 'desk'].index(size)}01"
    reply = send(page, "register", userId=phone, password=PASSWORD, nickname="Ann")
    expect(reply.locator(".verdict b")).to_have_text("0000")
    picture = tmp_path / "me.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nxxxx")
    page.locator("#upload [name=img]").set_input_files(picture)
    expect(page.locator("#upload .code code")).to_contain_text("-F img=@me.png")
    expect(send(page, "upload").locator("pre")).to_contain_text("/pictures/")

    send(page, "log_in", userId=phone, password=PASSWORD)
    # The token is kept, filled in, and still there when the page is opened anew.
    expect(page.locator("#search [name=token]")).not_to_have_value("")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    reply = send(page, "search", userId=phone)
    expect(reply.locator(".verdict b")).to_have_text("0000")
    expect(reply.locator("pre")).to_contain_text('"flag": "-1"')
    keep(f"docs-call-{language}-{size}")
    reply = send(page, "search", userId="12")
    expect(reply.locator(".verdict b")).to_have_text("0007")
    expect(reply.locator("dl")).to_contain_text("userId is not a phone number")
    expect(reply.locator("dl")).to_contain_text("X-Request-Id")
    check_page(page)


def test_the_call_is_there_to_copy(page: Page, server: Server) -> None:
    opened(page)
    section = page.locator("#send_code")
    code = section.locator(".code pre")
    expect(code).to_have_text(f"curl {server.address}/register \\\n  -d token=13800000001")
    section.locator("[name=token]").fill("a'b")
    expect(code).to_contain_text("--data-urlencode 'token=a'\\''b'")
    section.get_by_role("button", name="Python").click()
    expect(code).to_contain_text('client.send_code(token="a\'b")')
    page.locator("#refill").get_by_role("button", name="Python").click()
    expect(page.locator("#refill .code pre")).to_contain_text("client.refill(money=50)")


def test_everything_declared_is_on_it(page: Page, server: Server) -> None:
    opened(page)
    with urlopen(f"{server.address}/openapi.json") as reply:
        described = json.load(reply)
    names = {name for path in described["paths"].values() for name in path["post"]["x-operations"]}
    shown = page.locator(".operation").evaluate_all("nodes => nodes.map(node => node.id)")
    assert sorted(shown) == sorted(names)
    assert page.locator("#results-table tbody tr").count() == len(Result)


def test_the_language_is_switched_and_kept(page: Page, language: str) -> None:
    opened(page)
    other = {"en": "zh-CN", "zh": "en"}[language]
    page.locator("#language").click()
    expect(page.locator("html")).to_have_attribute("lang", other)
    opened(page)
    expect(page.locator("html")).to_have_attribute("lang", other)
    expect(page.locator("#log_in h3")).to_contain_text({"en": "Log in", "zh-CN": "登录"}[other])


def test_it_works_by_keyboard(page: Page, size: str) -> None:
    opened(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link over everything else
    page.locator("#friendlist [name=token]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#friendlist .verdict b")).to_have_text("0012")
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("scheme", ["dark"])
def test_in_the_dark(page: Page) -> None:
    opened(page)
    send(page, "friendlist", token="x")
    page.locator("#friendlist .came").wait_for()
    check_page(page)
