"""Browser tests of /docs, a page whose forms send requests and show responses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.result_codes import ResultCode
from tests.support.api import PASSWORD
from tests.support.page_checks import check_page, check_target_sizes
from tests.support.servers import Server

pytestmark = pytest.mark.processes

only_on_a_desk = pytest.mark.parametrize("size", ["desk"])
only_in_english = pytest.mark.parametrize("language", ["en"])


def open_docs(page: Page, fragment: str = "") -> None:
    page.goto(f"/docs{fragment}")
    page.wait_for_selector("body[data-ready]")


def check_open_page(page: Page) -> None:
    """Check the page with all details open.

    The other operations have the same elements, and axe would need several times as long for them.
    """
    page.evaluate(
        """() => {
            const shown = "#search, #live, #event-friend_live, #event-account_disabled";
            for (const node of document.querySelectorAll(`.operation:not(${shown})`))
                node.remove();
            for (const node of document.querySelectorAll("details")) node.open = true;
        }"""
    )
    check_page(page)
    check_target_sizes(page)


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
    phone = f"1370000{['en', 'zh'].index(language)}{['phone', 'desk'].index(size)}01"
    response = send(page, "register", userId=phone, password=PASSWORD, nickname="Ann")
    expect(response.locator(".summary b")).to_have_text("0000")
    picture = tmp_path / "me.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nxxxx")
    page.locator("#upload [name=img]").set_input_files(picture)
    expect(page.locator("#upload .code pre")).to_contain_text("-F img=@me.png")
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
    check_open_page(page)


@only_on_a_desk
@only_in_english
def test_docs_show_the_responses_of_every_operation(page: Page, server: Server) -> None:
    open_docs(page)
    with urlopen(f"{server.address}/openapi-operations.json") as response:
        document = json.load(response)
    operations = {
        methods["post"]["operationId"]: methods["post"] for methods in document["paths"].values()
    }
    # All texts of each operation's table of fields, example, errors and headers.
    shown: dict[str, Any] = page.locator(".operation:not(.event)").evaluate_all(
        """nodes => {
            const texts = (node, selector) =>
                [...node.querySelectorAll(selector)].map((part) => part.textContent);
            return Object.fromEntries(nodes.map((node) => [node.id, {
                fields: texts(node, ".fields [scope=row] code"),
                examples: texts(node, ".example pre"),
                codes: texts(node, ".errors > li > a"),
                reasons: texts(node, ".errors ul a"),
                headers: texts(node, ".more th code"),
            }]));
        }"""
    )
    assert shown.keys() == operations.keys()
    for name, operation in operations.items():
        success = operation["responses"]["200"]["content"]["application/json"]["examples"][
            "success"
        ]
        errors = operation["x-errors"]
        assert shown[name]["fields"][0] == "message", name
        assert json.loads(shown[name]["examples"][0]) == success["value"], name
        assert shown[name]["codes"] == ["0000", *errors, "0003"], name
        assert shown[name]["reasons"] == [reason for code in errors for reason in errors[code]]
        assert {"X-Error", "Retry-After", "X-Request-Id"} <= set(shown[name]["headers"]), name
    assert "message.friends[].playUrl.hls" in shown["friendlist"]["fields"]
    assert "hosts.publish" in shown["live"]["fields"]
    assert "X-Retry-Request-Id" in shown["refill"]["headers"]
    assert "publishKey" in json.loads(shown["live"]["examples"][1])
    assert page.locator("#results-table tbody tr").count() == len(ResultCode)
    assert page.locator("#reasons-table tbody tr").count() == len(ErrorReason)


@only_on_a_desk
def test_docs_show_every_event_with_its_fields_and_operation(
    page: Page, server: Server, language: str
) -> None:
    open_docs(page)
    with urlopen(f"{server.address}/asyncapi.json") as response:
        messages = json.load(response)["components"]["messages"]
    assert page.locator(".event").count() == len(messages)
    for name, message in messages.items():
        section = page.locator(f"#event-{name}")
        title = {"en": message["title"], "zh": message["x-zh"]}[language]
        expect(section.get_by_role("heading")).to_have_text(title, use_inner_text=True)
        example = message["examples"][0]["payload"]
        assert json.loads(section.locator("pre").inner_text()) == example
        fields = section.locator(".fields [scope=row] code").all_text_contents()
        assert [field for field in fields if field.count(".") == 1] == [
            f"data.{field}" for field in example["data"]
        ]
        operation = message.get("x-operation")
        assert section.locator(".current-state code").all_text_contents() == (
            [operation] if operation else []
        )
    common_fields = page.locator("#fields-events [scope=row] code").all_text_contents()
    assert common_fields == ["v", "type", "channel", "seq", "time", "data"]
    page.locator("#event-friend_live .current-state a").click()
    expect(page.locator("#friendlist")).to_be_in_viewport()
    page.locator("#search-field").fill("friend_live playUrl.hls")
    link = page.locator("#contents-list a:visible")
    expect(link).to_have_text(
        {"en": "Friend is live", "zh": "好友开播"}[language], use_inner_text=True
    )


@only_on_a_desk
@only_in_english
def test_docs_code_contains_the_values_of_the_form_but_not_the_login_token(page: Page) -> None:
    open_docs(page)
    copy = page.locator("#token-command .copy, #search .token-command .copy")
    expect(copy).to_have_text(["Log in to copy"] * 2)
    assert copy.evaluate_all("buttons => buttons.every(button => button.disabled)")
    page.locator("#token").fill("secret-token")
    expect(copy).to_have_text(["Copy"] * 2)
    code = page.locator("#search .code pre")
    expect(page.locator("#search [name=token]")).to_have_value("secret-token")
    expect(code).to_contain_text('-d token="$TOKEN"')
    # A required parameter that is empty has its example, and an optional one is left out.
    page.locator("#search [name=userId]").fill("")
    expect(code).to_contain_text("-d userId=13800000002")
    expect(page.locator("#refill .code pre")).not_to_contain_text("requestId")
    page.locator("#refill [name=requestId]").fill("a'b")
    expect(page.locator("#refill .code pre")).to_contain_text(
        "--data-urlencode 'requestId=a'\\''b'"
    )
    for language in ("Python", "TypeScript"):
        page.locator("#search").get_by_role("button", name=language).click()
        expect(page.locator("#refill .code pre")).to_contain_text('"a\'b"')
        assert "secret-token" not in "".join(page.locator(".code").all_inner_texts())


@only_on_a_desk
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


@only_in_english
def test_docs_work_by_keyboard(page: Page) -> None:
    open_docs(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # activates the skip link
    page.keyboard.press("/")
    expect(page.locator("#search-field")).to_be_focused()
    page.keyboard.type("LEDGER_BUSY gift")
    results = page.locator("#contents-list a:visible")
    expect(results).to_have_text(["Send a gift to a host"], use_inner_text=True)
    expect(page.locator(".search [role=status]")).to_have_text("1 match")
    for query, target in (
        ("0013 gift", "send_gift"),
        ("/friend refill", "refill"),
        ("publishKey", "live"),
        ("friends[].playUrl", "friendlist"),
        ("cursor", "paging"),
    ):
        page.locator("#search-field").fill(query)
        expect(page.locator(f"#contents-list [href='#{target}']")).to_be_visible()
        expect(page.locator("#contents-list [href='#log_out']")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#search-field")).to_have_value("")
    page.keyboard.type("好友列表")
    expect(results).to_have_text(["List friends"], use_inner_text=True)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#friendlist$"))
    page.keyboard.press("/")
    page.keyboard.type("nonsense")
    expect(page.locator(".search [role=status]")).to_have_text("No match.")
    page.keyboard.press("Escape")

    page.locator("#friendlist [name=token]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#friendlist .summary b")).to_have_text("0012")
    expect(page.locator("#friendlist [name=token]")).to_be_focused()
    # A response leaves the focus where the user has moved it.
    button, other_field = page.locator("#messagelist .main-button"), page.locator("#search-field")

    def respond_later(route: Route) -> None:
        other_field.focus()
        route.continue_()

    page.route("**/list", respond_later)
    button.press("Enter")
    expect(page.locator("#messagelist .summary b")).to_have_text("0012")
    expect(other_field).to_be_focused()
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@only_on_a_desk
@only_in_english
def test_docs_links_lead_to_their_parts(page: Page) -> None:
    open_docs(page, "#search-0007")
    # The part is inside of a <details>, which the link opens.
    expect(page.locator("#search-0007")).to_be_in_viewport()
    for fragment in ("reason-too_long", "result-0013", "send_gift-value", "paging", "search"):
        page.goto(f"/docs#{fragment}")
        expect(page.locator(f"#{fragment}")).to_be_in_viewport()
    # Some browsers do not open the details for a link within the page.
    page.evaluate(
        "history.pushState({}, '', '#refill-0013'); dispatchEvent(new Event('hashchange'))"
    )
    expect(page.locator("#refill-0013")).to_be_in_viewport()
    ids = page.locator("[id]").evaluate_all("nodes => nodes.map(node => node.id)")
    assert [name for name in ids if ids.count(name) > 1] == []
    links = page.locator("a[href^='#']").evaluate_all(
        "nodes => nodes.map(node => node.hash.slice(1))"
    )
    assert set(links) <= set(ids)
    assert {"search", "search-userId", "section-friends", "reason-too_long"} <= set(links)


@only_on_a_desk
def test_docs_explain_a_failed_load_and_try_again(context: BrowserContext, language: str) -> None:
    # Chromium logs the failures as errors, which the fixture `page` does not allow.
    page = context.new_page()
    responses: list[Callable[[Route], None]] = [
        lambda route: route.abort(),
        lambda route: route.fulfill(status=503),
        lambda route: route.fulfill(body='{"paths":'),
        lambda route: route.continue_(),
    ]

    def respond(route: Route) -> None:
        responses.pop(0)(route)

    page.route("**/openapi-operations.json", respond)
    page.goto("/docs")
    button = page.locator(".failure button")
    button.focus()
    check_page(page)
    for english, chinese in (
        ("The server did not respond.", "服务器没有响应。"),
        ("The server responded with HTTP status 503.", "服务器返回 HTTP 状态码 503。"),
        ("The response is incomplete", "响应不完整"),
    ):
        message = {"en": english, "zh": chinese}[language]
        expect(page.get_by_role("alert").get_by_text(message)).to_be_visible()
        # A new failure leaves the focus on the button.
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
    page.wait_for_selector("body[data-ready]")
    expect(button).to_have_count(0)
    expect(page.locator("#calls")).to_be_focused()


@pytest.mark.parametrize("color_scheme", ["dark"])
def test_docs_are_accessible_in_dark_mode(page: Page) -> None:
    open_docs(page)
    send(page, "search", token="x")
    page.locator("#search .response").wait_for()
    check_open_page(page)
