"""Browser tests of /demo, a page that shows the phones of two users."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.demo_page import (
    LABELS,
    PASSWORD,
    DemoUser,
    befriend,
    check_accessibility,
    open_demo,
    stored_phones,
    wait_until_ready,
)
from tests.support.page_checks import check_page, check_target_sizes
from tests.support.servers import Server

pytestmark = pytest.mark.processes

DISABLE_STORAGE = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, {
    get() { throw new DOMException("disabled", "SecurityError"); },
  });
}
"""
MARKUP = "<img src=x onerror=alert(1)>"
REASONS = {"en": "value exceeds the balance", "zh": "value：金币不足"}


def test_demo_users_can_befriend_go_live_and_send_gifts(
    page: Page, language: str, size: str, save_screenshot: Callable[[str], None]
) -> None:
    ann, ben = open_demo(page, language)
    # The structure of the registration screens is the same in both languages.
    ann.register(check_accessibility if language == "en" else check_target_sizes)
    ben.register()
    befriend(ann, ben)
    check_accessibility(page)

    ann.open_tab("live")
    check_target_sizes(page)
    ann.press("go")
    ann.expect_focus_on_heading("on air")
    expect(ann.phone.locator(".qr path")).to_have_count(1)
    expect(ann.phone.locator(".copied").nth(0)).to_contain_text("rtmp://")
    expect(ann.phone.locator(".copied").nth(1)).to_contain_text("?key=")
    publish_key = ann.phone.locator(".copied code").nth(1).inner_text().partition("?key=")[2]
    check_accessibility(page)

    ben.show_phone()
    ben.open_tab("coins")
    check_target_sizes(page)
    ben.activate(ben.phone.get_by_role("button", name="¥50"))
    expect(ben.coins).to_have_text("50")
    ben.open_tab("friends")
    ben.press("watch")
    ben.expect_focus_on_heading("on air")
    rocket = ben.phone.locator(".gift", has_text=LABELS[language]["rocket"])
    ben.activate(rocket)
    expect(ben.phone.locator(".hint output")).to_have_text("20")
    expect(rocket).to_be_focused()
    save_screenshot(f"demo-gift-{language}-{size}")

    # The server refuses a second rocket, because Ben has too few coins.
    ben.activate(rocket)
    error = ben.phone.locator(".notice.bad .error-view")
    expect(error).to_contain_text("0013")
    expect(error.get_by_text(REASONS[language], exact=True)).to_be_visible()
    check_accessibility(page)
    check_error_follows_the_language(page, error, language)

    check_call_log(page, publish_key)
    ben.show_phone()
    ben.press("back")
    ben.expect_focus_on_heading("friends")
    ann.show_phone()
    ann.open_tab("coins")
    expect(ann.coins).to_have_text("30")
    ann.open_tab("live", heading="on air")
    ann.press("end")
    ann.expect_focus_on_heading("live")
    ben.show_phone()
    expect(ben.phone.locator(".live-button")).to_have_count(0)
    ben.press("remove")
    ben.expect_focus_on_heading("friends")
    expect(ben.phone.locator(".person")).to_have_count(0)


def check_error_follows_the_language(page: Page, error: Locator, language: str) -> None:
    other_language = {"en": "zh", "zh": "en"}[language]
    page.locator("#language").click()
    expect(error.get_by_text(REASONS[other_language], exact=True)).to_be_visible()
    expect(error.get_by_text(REASONS[language], exact=True)).to_be_hidden()
    page.locator("#language").click()


def check_call_log(page: Page, publish_key: str) -> None:
    """Check that the log is reachable, counts the requests and contains no secrets."""
    log = page.locator(".call-log")
    button = page.locator("#which [data-side=log]")
    request_count = page.evaluate(
        "performance.getEntriesByType('resource').filter("
        "({name}) => /[/](register|upload|log|room|list|friend|golden|events)$/.test(name)).length"
    )
    assert button.locator(".count").text_content() == str(request_count)
    if button.is_visible():
        expect(log).to_be_hidden()
        button.click()
        expect(page.locator(".phone:visible")).to_have_count(0)
    expect(log.locator(".error").first).to_be_visible()
    go_live = log.locator("details", has_text="/room live")
    go_live.locator("summary").click()
    expect(go_live.locator("pre")).to_be_visible()
    expect(go_live.locator("pre")).to_contain_text(r"\"publishKey\":\"…\"")
    check_accessibility(page)
    go_live.locator("summary").click()
    shown = log.text_content() or ""
    assert "password=…" in shown
    assert "code_v=…\ncode=…" in shown
    assert '{"result":"0000","message":"…"}' in shown
    tokens = [phone["token"] for phone in stored_phones(page).values()]
    for secret in (PASSWORD, publish_key, *tokens):
        assert secret
        assert secret not in shown


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
@pytest.mark.parametrize("color_scheme", ["dark"])
def test_demo_is_accessible_in_dark_mode_and_works_without_storage(
    page: Page, language: str
) -> None:
    page.add_init_script(DISABLE_STORAGE)
    ann, _ = open_demo(page, language)
    ann.register()
    ann.phone.locator("[name=search]").fill("12")
    ann.press("find")
    expect(ann.phone.locator(".notice.bad")).to_contain_text("userId is not a phone number")
    check_page(page)
    ann.open_tab("live")
    ann.press("go")
    ann.expect_focus_on_heading("on air")
    check_page(page)


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
def test_demo_keeps_both_phones_after_a_reload(page: Page, language: str) -> None:
    ann, ben = open_demo(page, language)
    ann.register()
    ben.register()
    ann.open_tab("live")
    ann.press("go")
    ann.expect_focus_on_heading("on air")
    ben.open_tab("coins")
    ben.activate(ben.phone.get_by_role("button", name="¥10", exact=True))
    expect(ben.coins).to_have_text("10")
    numbers = page.locator(".number").all_inner_texts()
    stream_key = ann.phone.locator(".copied code").nth(1).inner_text()

    page.reload()
    wait_until_ready(page)
    expect(ben.coins).to_have_text("10")
    assert page.locator(".phone h2").all_inner_texts() == ["Ann", "Ben"]
    assert page.locator(".number").all_inner_texts() == numbers
    expect(ann.phone.locator(".copied code").nth(1)).to_have_text(stream_key)

    # An expired token leads to the login screen; another error does not.
    expire_login_tokens(page, number=numbers[0])
    page.reload()
    wait_until_ready(page)
    expect(ann.phone.get_by_role("heading", name="Log in")).to_be_visible()
    notice = ann.phone.locator(".notice.bad")
    expect(notice).to_contain_text("You were logged out. Log in again.")
    expect(notice).to_contain_text("token has expired")
    expect(page.locator(".call-log .error")).to_contain_text("token has expired")
    expect(ben.coins).to_have_text("10")
    page.unroute("**/list")
    check_accessibility(page)
    ann.press("return")
    ann.expect_focus_on_heading("number")
    ann.press("account")
    ann.expect_focus_on_heading("log in")
    check_invalid_token_ends_the_login(page, ann)
    check_login_leaves_the_focus_on_the_other_phone(page, ann, ben)
    expect(notice).to_have_count(0)
    check_logged_out_phone_forgets_the_stream(page, ann, ben)

    page.get_by_role("button", name="Start over").click()
    ann.expect_focus_on_heading("number")
    assert ann.phone.locator("[name=number]").input_value() not in numbers
    assert page.locator(".call-log li").count() == 0
    assert [phone["token"] for phone in stored_phones(page).values()] == ["", ""]


def check_invalid_token_ends_the_login(page: Page, ann: DemoUser) -> None:
    """Check that the login screen stays, if the server refuses the token of a new login."""
    body = {"result": "0000", "message": "invalid-token"}
    page.route("**/log", lambda route: route.fulfill(json=body), times=1)
    ann.press("log in")
    expect(ann.phone.locator(".notice.bad")).to_contain_text("0012")
    ann.expect_focus_on_heading("log in")
    expect(ann.phone.locator(".tabs")).to_have_count(0)


def check_login_leaves_the_focus_on_the_other_phone(
    page: Page, ann: DemoUser, ben: DemoUser
) -> None:
    ben.open_tab("friends")
    held = hold_requests(page, "**/log")
    with page.expect_request("**/log"):
        ann.phone.locator("[name=password]").press("Enter")
    search = ben.phone.locator("[name=search]")
    search.fill("")
    search.press_sequentially("139")
    held[0].continue_()
    expect(ann.phone.get_by_role("heading", name="Friends")).to_be_visible()
    expect(ann.phone.locator(".number")).not_to_be_empty()
    page.keyboard.type("42")
    expect(search).to_have_value("13942")
    page.unroute("**/log")


def check_logged_out_phone_forgets_the_stream(page: Page, ann: DemoUser, ben: DemoUser) -> None:
    """Check that a response after the end of the login does not show or store the stream key."""
    held = hold_requests(page, "**/room", "heartbeat=1")
    ann.open_tab("live")
    with page.expect_request(lambda request: "heartbeat=1" in (request.post_data or "")):
        ann.phone.locator("[name=title]").press("Enter")
    # A live event logs Ann out before the response to the heartbeat arrives, because Ann's phone
    # reads the list of messages.
    number = ann.phone.locator(".number").inner_text()
    expire_login_tokens(page, number)
    search = ben.phone.locator("[name=search]")
    search.fill(number)
    search.press("Enter")
    ben.phone.get_by_role("button", name="Add").press("Enter")
    expect(ann.phone.get_by_role("heading", name="Log in")).to_be_visible()
    with page.expect_response(lambda response: response.url.endswith("/room")):
        held[0].continue_()
    expect(page.locator(".call-log summary", has_text="/room heartbeat")).to_have_count(1)
    assert stored_phones(page)["a"]["live"] is None
    expect(ann.phone.get_by_role("heading", name="Log in")).to_be_visible()
    page.unroute("**/room")
    page.unroute("**/list")


def hold_requests(page: Page, path: str, field: str = "") -> list[Route]:
    """Hold the requests of a path whose form contains the field; the caller continues them."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if field in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route(path, hold)
    return held


def expire_login_tokens(page: Page, number: str) -> None:
    """Let the server respond to the lists of one user as after the expiry of the token."""
    phones = stored_phones(page).values()
    [token] = [phone["token"] for phone in phones if phone["number"] == number]

    def respond(route: Route) -> None:
        if token in (route.request.post_data or ""):
            route.fulfill(
                headers={"X-Error": "token; reason=token_expired"},
                json={"result": "0011", "message": None},
            )
        else:
            route.continue_()

    page.route("**/list", respond)


VALID_PHONE = {"number": "13900000001", "token": "", "tab": "friends", "live": None}
BROKEN_SESSIONS: list[Any] = [
    "{",
    "null",
    [],
    {"view": "c", "phones": {"a": 1, "b": None}},
    {"view": 1, "phones": {"a": {**VALID_PHONE, "number": 7, "token": {}, "tab": "x"}}},
    {"phones": {"a": {**VALID_PHONE, "token": "\n", "live": {"server": "rtmp://x", "key": 1}}}},
    {"phones": {"a": VALID_PHONE, "b": {**VALID_PHONE, "token": "x" * 2000, "live": "x"}}},
    # The token is well-formed, but not a token of this server.
    {"phones": {"b": {**VALID_PHONE, "token": "x", "live": {"server": "rtmp:x", "key": "k"}}}},
]


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["zh"])
def test_demo_ignores_invalid_stored_data(page: Page, language: str) -> None:
    ann, ben = open_demo(page, language)
    for session in BROKEN_SESSIONS:
        text = session if isinstance(session, str) else json.dumps(session)
        page.evaluate("text => sessionStorage.setItem('livebackend.demo', text)", text)
        page.reload()
        wait_until_ready(page)
        expect(ann.phone.locator("[name=number]")).to_have_value(re.compile("^139[0-9]{8}$"))
        assert ben.phone.is_visible()
    expect(ben.phone.locator(".notice.bad")).to_contain_text("登录已失效，请重新登录。")
    expect(ben.phone.locator(".notice.bad")).to_contain_text("token：登录凭证无效")


RESPONSES_WITH_SECRETS: list[tuple[str, dict[str, Any]]] = [
    ("/log", {"result": "0000", "message": "SECRET"}),
    ("/register", {"result": "0000", "message": "SECRET"}),
    ("/room", {"result": "0000", "message": '{"id":"z1.hub.t","publishKey":"SECRET"}'}),
    ("/room", {"result": "0000", "message": {"publishUrl": "rtmp://host/hub/t?key=SECRET&n=1"}}),
    ("/events", {"result": "0000", "message": {"url": "http://host/events?ticket=SECRET"}}),
    ("/golden", {"result": "0000", "message": {"orderId": "o1", "pay": {"sign": "SECRET"}}}),
    ("/list", {"result": "0000", "message": [{"token": "SECRET"}, {"code": {"a": ["SECRET"]}}]}),
]
PARAMETERS_WITH_SECRETS = ["token", "password", "oldPassword", "code", "code_v"]


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
def test_demo_masks_every_secret_and_nothing_else(page: Page) -> None:
    page.goto("/demo")
    wait_until_ready(page)
    script = page.locator("script[type=module]").get_attribute("src") or ""
    module = "/" + script.replace("demo/demo.js", "shared/secrets.js")

    def run(function: str, *arguments: object) -> Any:
        return page.evaluate(
            "async ([module, name, values]) => (await import(module))[name](...values)",
            [module, function, arguments],
        )

    for path, body in RESPONSES_WITH_SECRETS:
        shown = run("maskResponse", path, {"body": body, "text": json.dumps(body)})
        assert "SECRET" not in shown
        assert json.loads(shown).keys() == body.keys()
    for name in PARAMETERS_WITH_SECRETS:
        assert run("maskParameter", name, "SECRET") == "…"
    assert run("maskParameter", "token", "13800000001") == "13800000001"
    assert run("maskParameter", "title", "Harbour") == "Harbour"
    public = {"result": "0000", "message": {"friends": [{"userId": "1"}], "coins": 3}, "flag": "1"}
    response = {"body": public, "text": json.dumps(public)}
    assert json.loads(run("maskResponse", "/list", response)) == public
    assert run("maskResponse", "/log", {"body": None, "text": "<html>"}) == "<html>"


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
@pytest.mark.parametrize("path", ["/docs", "/demo"])
def test_browser_reads_the_manifest_of_a_page(page: Page, path: str) -> None:
    page.goto(path)
    manifest = page.context.new_cdp_session(page).send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert "icon-192.png" in manifest["data"]


PLAYLIST = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:2
#EXT-X-PLAYLIST-TYPE:VOD
#EXTINF:2.0,
two-seconds.ts
#EXT-X-ENDLIST
"""


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
def test_demo_plays_a_stream_with_markup_in_its_title(
    page: Page, server: Server, language: str
) -> None:
    """The test replaces the play URL in the /list response by that of a local video."""
    playlist_url = f"{server.address}/media/stream.m3u8"

    def replace_play_url(route: Route) -> None:
        response = route.fetch()
        route.fulfill(
            response=response,
            body=re.sub(r"http://[\w.-]+\.example/[^\"]+\.m3u8", playlist_url, response.text()),
        )

    page.route("**/list", replace_play_url)
    page.route("**/media/stream.m3u8", lambda route: route.fulfill(body=PLAYLIST))
    video_segment = Path(__file__).with_name("two-seconds.ts").read_bytes()
    page.route("**/media/two-seconds.ts", lambda route: route.fulfill(body=video_segment))
    ann, ben = open_demo(page, language)
    for user in (ann, ben):
        user.register()
    befriend(ann, ben)
    ann.open_tab("live")
    ann.phone.locator("[name=title]").fill(MARKUP)
    ann.press("go")
    expect(ben.phone.locator(".live-button")).to_be_visible()
    # The live event has the original URL, so the test reads the list.
    page.reload()
    wait_until_ready(page)
    ben.press("watch")
    expect(ben.phone.get_by_role("heading", name=MARKUP, exact=True)).to_be_focused()
    video = ben.phone.locator("video")
    for _ in range(100):
        if video.evaluate("video => video.currentTime") > 0.5:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("the video did not play within 10 s")
    expect(ben.phone.locator(".card")).to_be_hidden()
