"""Browser tests of /docs, a page whose forms send requests and show responses."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Locator, Page, expect

from livebackend.api.result_codes import ResultCode
from tests.support.api import PASSWORD
from tests.support.page_checks import check_page
from tests.support.servers import Server

pytestmark = pytest.mark.processes


def open_docs(page: Page) -> None:
    page.goto("/docs")
    page.wait_for_selector("body[data-ready]")


def send(page: Page, operation: str, **fields: str) -> Locator:
    """Fill in and send the form of an operation; return the response area."""
    section = page.locator(f"#{operation}")
    for name, value in fields.items():
        section.locator(f'[name="{name}"]').fill(value)
    section.locator("form button").click()
    return section.locator(".response")


def test_docs_forms_send_requests_and_show_responses(
    page: Page, language: str, size: str, save_screenshot: Callable[[str], None], tmp_path: Path
) -> None:
    open_docs(page)
    heading = {"en": "API of the live-streaming app", "zh": "直播应用的后端接口"}[language]
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    save_screenshot(f"docs-{language}-{size}")
    # The test runs four times with the same server, so each run registers another phone number.
    phone = f"1380000{['en', 'zh'].index(language)}{['phone', 'desk'].index(size)}01"
    response = send(page, "register", userId=phone, password=PASSWORD, nickname="Ann")
    expect(response.locator(".summary b")).to_have_text("0000")
    picture = tmp_path / "me.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nxxxx")
    page.locator("#upload [name=img]").set_input_files(picture)
    expect(page.locator("#upload .code code")).to_contain_text("-F img=@me.png")
    expect(send(page, "upload").locator("pre")).to_contain_text("/pictures/")

    send(page, "log_in", userId=phone, password=PASSWORD)
    # The page stores the login token, and fills it into the forms even after a reload.
    expect(page.locator("#search [name=token]")).not_to_have_value("")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    response = send(page, "search", userId=phone)
    expect(response.locator(".summary b")).to_have_text("0000")
    expect(response.locator("pre")).to_contain_text('"flag": "-1"')
    save_screenshot(f"docs-call-{language}-{size}")
    response = send(page, "search", userId="12")
    expect(response.locator(".summary b")).to_have_text("0007")
    expect(response.locator("dl")).to_contain_text("userId; reason=not_a_phone_number")
    message = {"en": "userId is not a phone number", "zh": "userId：不是有效的手机号"}[language]
    # `.error` contains the message in both languages; one of them is visible.
    expect(response.locator(".error").get_by_text(message, exact=True)).to_be_visible()
    expect(response.locator(".error [lang]:visible")).to_have_text([message])
    expect(response.locator("dl")).to_contain_text("X-Request-Id")
    check_page(page)


def test_docs_show_requests_as_curl_and_python(page: Page, server: Server) -> None:
    open_docs(page)
    section = page.locator("#send_code")
    code = section.locator(".code pre")
    expect(code).to_have_text(f"curl {server.address}/register \\\n  -d token=13800000001")
    section.locator("[name=token]").fill("a'b")
    expect(code).to_contain_text("--data-urlencode 'token=a'\\''b'")
    section.get_by_role("button", name="Python").click()
    expect(code).to_contain_text('client.send_code(token="a\'b")')
    page.locator("#refill").get_by_role("button", name="Python").click()
    expect(page.locator("#refill .code pre")).to_contain_text("client.refill(money=50)")


def test_docs_list_every_operation_and_result_code(page: Page, server: Server) -> None:
    open_docs(page)
    with urlopen(f"{server.address}/openapi-operations.json") as response:
        document = json.load(response)
    operation_names = {methods["post"]["operationId"] for methods in document["paths"].values()}
    shown_names = page.locator(".operation").evaluate_all("nodes => nodes.map(node => node.id)")
    assert sorted(shown_names) == sorted(operation_names)
    assert page.locator("#results-table tbody tr").count() == len(ResultCode)


def test_docs_language_choice_survives_a_reload(page: Page, language: str) -> None:
    open_docs(page)
    other_language = {"en": "zh-CN", "zh": "en"}[language]
    page.locator("#language").click()
    expect(page.locator("html")).to_have_attribute("lang", other_language)
    open_docs(page)
    expect(page.locator("html")).to_have_attribute("lang", other_language)
    expect(page.locator("#log_in h3")).to_contain_text(
        {"en": "Log in", "zh-CN": "登录"}[other_language]
    )


def test_docs_work_by_keyboard(page: Page, size: str) -> None:
    open_docs(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # activates the skip link
    page.locator("#friendlist [name=token]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#friendlist .summary b")).to_have_text("0012")
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("color_scheme", ["dark"])
def test_docs_are_accessible_in_dark_mode(page: Page) -> None:
    open_docs(page)
    send(page, "friendlist", token="x")
    page.locator("#friendlist .response").wait_for()
    check_page(page)
