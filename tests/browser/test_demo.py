"""/demo in a browser: two people meet, one goes live, the other gives."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.support.page_checks import check_page
from tests.support.servers import Server

pytestmark = pytest.mark.processes

WORDS = {
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


class Player:
    """Somebody who plays on one of the phones."""

    def __init__(self, page: Page, side: str, words: dict[str, str]) -> None:
        self.page, self.side, self.words = page, side, words
        self.phone: Locator = page.locator(f".phone.{side}")

    def take(self) -> None:
        """Takes the phone up; on a narrow screen one is seen at a time."""
        switch = self.page.locator(f"#which [data-side={self.side}]")
        if switch.is_visible():
            switch.click()

    def press(self, word: str) -> None:
        self.phone.get_by_role("button", name=self.words[word], exact=True).click()

    def tab(self, name: str) -> None:
        self.phone.locator(f'[data-tab="{name}"]').click()

    def join(self) -> None:
        self.take()
        self.press("code")
        self.press("fill")
        self.press("verify")
        self.press("open")
        expect(self.phone.locator(".tabs")).to_be_visible()

    @property
    def coins(self) -> Locator:
        return self.phone.locator(".coins")


def test_the_whole_story(page: Page, language: str, size: str, keep: Callable[[str], None]) -> None:
    words = WORDS[language]
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    ann, ben = Player(page, "a", words), Player(page, "b", words)
    ann.join()
    check_page(page)
    ben.join()

    # Ben finds Ann and asks; the number of the other phone stands in the field.
    ben.press("find")
    ben.press("add")
    ann.take()
    expect(ann.phone.locator(".badge")).to_have_text("1")
    ann.tab("messages")
    ann.press("accept")
    expect(ann.phone.locator(".badge")).to_be_hidden()

    ann.tab("live")
    ann.press("go")
    expect(ann.phone.locator(".qr path")).to_have_count(1)
    expect(ann.phone.locator(".copied").nth(0)).to_contain_text("rtmp://")
    expect(ann.phone.locator(".copied").nth(1)).to_contain_text("?key=")
    check_page(page)

    ben.take()
    ben.tab("coins")
    ben.phone.get_by_role("button", name="¥50").click()
    expect(ben.coins).to_have_text("50")
    ben.tab("friends")
    ben.press("watch")
    ben.phone.locator(".gift", has_text=words["rocket"]).click()
    expect(ben.phone.locator(".hint output")).to_have_text("20")
    keep(f"demo-gift-{language}-{size}")
    check_page(page)
    # What one does not have, one cannot give: the refusal is shown.
    ben.phone.locator(".gift", has_text=words["rocket"]).click()
    expect(ben.phone.locator(".notice.bad")).to_contain_text("0013")
    expect(page.locator(".wire .refusal").first).to_contain_text("more than the coins")

    ann.take()
    ann.tab("coins")
    expect(ann.coins).to_have_text("30")
    ann.tab("live")
    ann.press("end")
    ben.take()
    ben.tab("friends")
    expect(ben.phone.locator(".live-button")).to_have_count(0)


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("scheme", ["dark"])
def test_in_the_dark(page: Page, language: str) -> None:
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    Player(page, "a", WORDS[language]).join()
    check_page(page)


@pytest.mark.parametrize("size", ["desk"])
def test_it_works_by_keyboard(page: Page, language: str) -> None:
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    ann = Player(page, "a", WORDS[language])
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
def test_the_picture_is_played_where_there_is_one(page: Page, server: Server) -> None:
    """A media server is played by the test: a list's reply names it, and two seconds come of it."""
    media = f"{server.address}/media/stream.m3u8"

    def somewhere_real(route: Route) -> None:
        reply = route.fetch()
        route.fulfill(
            response=reply,
            body=re.sub(r"http://[\w.-]+\.example/[^\"]+\.m3u8", media, reply.text()),
        )

    page.route("**/list", somewhere_real)
    page.route("**/media/stream.m3u8", lambda route: route.fulfill(body=PLAYLIST))
    picture = Path(__file__).with_name("two-seconds.ts").read_bytes()
    page.route("**/media/two-seconds.ts", lambda route: route.fulfill(body=picture))
    page.goto("/demo")
    page.wait_for_selector("body[data-ready]")
    ann, ben = Player(page, "a", WORDS["en"]), Player(page, "b", WORDS["en"])
    for player in (ann, ben):
        player.join()
    ben.press("find")
    ben.press("add")
    ann.tab("messages")
    ann.press("accept")
    ann.tab("live")
    ann.press("go")
    ben.press("watch")
    video = ben.phone.locator("video")
    for _ in range(100):
        if video.evaluate("video => video.currentTime") > 0.5:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("the picture does not move")
    expect(ben.phone.locator(".card")).to_be_hidden()
