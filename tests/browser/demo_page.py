"""The page /demo in browser tests: its two phones and their users."""

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.support.page_checks import check_page, check_target_sizes

PASSWORD = "harbour-42"
LABELS = {
    "en": {
        "code": "Send me a code", "fill": "Use it", "verify": "Verify", "open": "Register",
        "find": "Find", "add": "Add", "accept": "Accept", "go": "Go live", "watch": "Watch",
        "back": "Back to friends", "rocket": "rocket", "end": "End", "remove": "Remove",
        "log in": "Log in", "account": "I have an account", "return": "Back",
    },
    "zh": {
        "code": "发送验证码", "fill": "填入", "verify": "验证", "open": "注册", "find": "查找",
        "add": "加好友", "accept": "接受", "go": "开始直播", "watch": "观看", "back": "返回好友",
        "rocket": "火箭", "end": "结束直播", "remove": "删除", "log in": "登录",
        "account": "已有账号", "return": "返回",
    },
}  # fmt: skip
HEADINGS = {
    "en": {
        "number": "Welcome", "code": "Enter the code", "profile": "Profile", "friends": "Friends",
        "messages": "Friend requests", "live": "Go live", "coins": "Coins",
        "on air": "An evening by the harbour", "log in": "Log in",
    },
    "zh": {
        "number": "欢迎", "code": "输入验证码", "profile": "个人资料", "friends": "好友",
        "messages": "好友申请", "live": "开播", "coins": "金币", "on air": "港湾夜话",
        "log in": "登录",
    },
}  # fmt: skip


class DemoUser:
    """The user of one of the two phones on the page.

    The user of a wide screen presses Enter, the user of a narrow screen clicks.
    """

    def __init__(self, page: Page, side: str, language: str) -> None:
        self.page, self.side, self.language = page, side, language
        self.phone: Locator = page.locator(f".phone.{side}")
        self.switch: Locator = page.locator(f"#which [data-side={side}]")

    def show_phone(self) -> None:
        """Show the phone of this user; a narrow screen shows one phone at a time."""
        if self.switch.is_visible():
            self.switch.click()

    def activate(self, control: Locator) -> None:
        """Activate a control; wait for its action, after which some element must have the focus."""
        if self.switch.is_visible():
            control.click()
        else:
            control.press("Enter")
        expect(self.phone.locator("[aria-disabled]")).to_have_count(0)
        expect(self.page.locator("body")).not_to_be_focused()

    def press(self, button: str) -> None:
        name = LABELS[self.language][button]
        self.activate(self.phone.get_by_role("button", name=name, exact=True))

    def open_tab(self, name: str, *, heading: str | None = None) -> None:
        self.activate(self.phone.locator(f'[data-tab="{name}"]'))
        self.expect_focus_on_heading(heading or name)

    def expect_focus_on_heading(self, name: str) -> None:
        heading = HEADINGS[self.language][name]
        expect(self.phone.get_by_role("heading", name=heading, exact=True)).to_be_focused()

    def register(self, check: Callable[[Page], None] = lambda page: None) -> None:
        """Register with the preset values; call `check` on each screen."""
        self.show_phone()
        check(self.page)
        self.press("code")
        self.expect_focus_on_heading("code")
        check(self.page)
        self.press("fill")
        self.phone.locator("[name=code]").press("Enter")
        self.expect_focus_on_heading("profile")
        check(self.page)
        self.phone.locator("[name=password]").press("Enter")
        self.expect_focus_on_heading("friends")
        check(self.page)

    @property
    def coins(self) -> Locator:
        return self.phone.locator(".coins")


def check_accessibility(page: Page) -> None:
    check_page(page)
    check_target_sizes(page)


def open_demo(page: Page, language: str) -> tuple[DemoUser, DemoUser]:
    page.goto("/demo")
    wait_until_ready(page)
    return DemoUser(page, "a", language), DemoUser(page, "b", language)


def wait_until_ready(page: Page) -> None:
    page.wait_for_selector("body[data-ready]")


def befriend(ann: DemoUser, ben: DemoUser) -> None:
    # Ben's search field already contains Ann's phone number.
    ben.press("find")
    ben.press("add")
    ben.expect_focus_on_heading("friends")
    ann.show_phone()
    expect(ann.phone.locator(".badge")).to_have_text("1")
    ann.open_tab("messages")
    ann.press("accept")
    expect(ann.phone.locator(".badge")).to_be_hidden()
    ann.expect_focus_on_heading("messages")


def stored_phones(page: Page) -> dict[str, Any]:
    stored = json.loads(page.evaluate("sessionStorage.getItem('livebackend.demo')"))
    return dict(stored["phones"])
