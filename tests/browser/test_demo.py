"""Browser tests of /demo, a page that shows the phones of two users."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.support.page_checks import check_page
from tests.support.servers import Server

pytestmark = pytest.mark.processes

LABELS = {
    "en": {
        "code": "Send me a code", "fill": "Use it", "verify": "Verify", "open": "Register",
        "find": "Find", "add": "Add", "accept": "Accept", "messages": "Messages",
        "friends": "Friends", "tab_live": "Live", "coins": "Coins", "go": "Go live",
        "watch": "Watch", "rose": "rose", "rocket": "rocket", "end": "End",
    },
    "zh": {
        "code": "发送验证码", "fill": "填入", "verify": "验证", "open": "注册", "find": "查找",
        "add": "加好友", "accept": "接受", "messages": "消息", "friends": "好友",
        "tab_live": "直播", "coins": "金币", "go": "开始直播", "watch": "观看", "rose": "玫瑰",
        "rocket": "火箭", "end": "结束直播",
    },
}  # fmt: skip


class DemoUser:
    """The user of one of the two phones on the page."""

    def __init__(self, page: Page, side: str, labels: dict[str, str]) -> None:
        self.page, self.side, self.labels = page, side, labels
        self.phone: Locator = page.locator(f".phone.{side}")

    def show_phone(self) -> None:
        """Show the phone of this user; a narrow screen shows one phone at a time."""
        switch = self.page.locator(f"#which [data-side={self.side}]")
        if switch.is_visible():
            switch.click()

    def press(self, button: str) -> None:
        self.phone.get_by_role("button", name=self.labels[button], exact=True).click()

    def open_tab(self, name: str) -> None:
        self.phone.locator(f'[data-tab="{name}"]').click()

    def register(self) -> None:
        self.show_phone()
        self.press("code")
        self.press("fill")
        self.press("verify")
        self.press("open")
        expect(self.phone.locator(".tabs")).to_be_visible()

    @property
    def coins(self) -> Locator:
        return self.phone.locator(".coins")


def test_demo_users_can_befriend_go_live_and_send_gifts(
    page: Page, language: str, size: str, save_screenshot: Callable[[str], None]
) -> None:
    labels = LABELS[language]
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    ann, ben = DemoUser(page, "a", labels), DemoUser(page, "b", labels)
    ann.register()
    check_page(page)
    ben.register()

    # Ben's search field already contains Ann's phone number.
    ben.press("find")
    ben.press("add")
    ann.show_phone()
    expect(ann.phone.locator(".badge")).to_have_text("1")
    ann.open_tab("messages")
    ann.press("accept")
    expect(ann.phone.locator(".badge")).to_be_hidden()

    ann.open_tab("live")
    ann.press("go")
    expect(ann.phone.locator(".qr path")).to_have_count(1)
    expect(ann.phone.locator(".copied").nth(0)).to_contain_text("rtmp://")
    expect(ann.phone.locator(".copied").nth(1)).to_contain_text("?key=")
    check_page(page)

    ben.show_phone()
    ben.open_tab("coins")
    ben.phone.get_by_role("button", name="¥50").click()
    expect(ben.coins).to_have_text("50")
    ben.open_tab("friends")
    ben.press("watch")
    ben.phone.locator(".gift", has_text=labels["rocket"]).click()
    expect(ben.phone.locator(".hint output")).to_have_text("20")
    save_screenshot(f"demo-gift-{language}-{size}")
    check_page(page)
    # The page shows an error, because Ben has too few coins for a second rocket.
    ben.phone.locator(".gift", has_text=labels["rocket"]).click()
    expect(ben.phone.locator(".notice.bad")).to_contain_text("0013")
    expect(page.locator(".call-log .error").first).to_contain_text("exceeds the balance")

    ann.show_phone()
    ann.open_tab("coins")
    expect(ann.coins).to_have_text("30")
    ann.open_tab("live")
    ann.press("end")
    ben.show_phone()
    ben.open_tab("friends")
    expect(ben.phone.locator(".live-button")).to_have_count(0)


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("color_scheme", ["dark"])
def test_demo_is_accessible_in_dark_mode(page: Page, language: str) -> None:
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    DemoUser(page, "a", LABELS[language]).register()
    check_page(page)


@pytest.mark.parametrize("size", ["desk"])
def test_demo_registration_works_by_keyboard(page: Page, language: str) -> None:
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    ann = DemoUser(page, "a", LABELS[language])
    ann.phone.locator("[name=number]").focus()
    page.keyboard.press("Enter")
    code = ann.phone.locator("[name=code]")
    code.wait_for()
    code.fill(ann.phone.locator(".notice b").inner_text())
    code.press("Enter")
    ann.phone.locator("[name=password]").press("Enter")
    expect(ann.phone.locator(".tabs")).to_be_visible()
    ann.phone.locator('[data-tab="coins"]').focus()
    page.keyboard.press("Enter")
    expect(ann.coins).to_have_text("0")


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
def test_demo_plays_a_stream(page: Page, server: Server) -> None:
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
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    ann, ben = DemoUser(page, "a", LABELS["en"]), DemoUser(page, "b", LABELS["en"])
    for user in (ann, ben):
        user.register()
    ben.press("find")
    ben.press("add")
    ann.open_tab("messages")
    ann.press("accept")
    ann.open_tab("live")
    ann.press("go")
    ben.press("watch")
    video = ben.phone.locator("video")
    for _ in range(100):
        if video.evaluate("video => video.currentTime") > 0.5:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("the video did not play within 10 s")
    expect(ben.phone.locator(".card")).to_be_hidden()
