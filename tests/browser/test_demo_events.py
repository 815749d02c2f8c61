"""Browser tests of live events in /demo: the phones do not poll, and miss nothing."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from livebackend.database.engine import Database
from livebackend.events.outbox import Outbox
from livebackend.services import operator_accounts
from tests.browser.demo_page import (
    LABELS,
    DemoUser,
    befriend,
    check_accessibility,
    open_demo,
    stored_phones,
    wait_until_ready,
)
from tests.support.servers import Server, listening_pids

pytestmark = pytest.mark.processes

only_on_a_desk = pytest.mark.parametrize("size", ["desk"])
only_in_english = pytest.mark.parametrize("language", ["en"])

# The event server starts within 7 s, and the phone connects within 15 s after that.
RECONNECT_MS = 25_000
START = ["/events ticket", "/golden balance", "/list friendlist", "/list messagelist"]
RECEIVED = {
    "en": {
        "request": "Ben sent you a friend request.",
        "accepted": "Ann accepted your friend request.",
        "live": "Ann is live.", "bought": "You bought 50 coins.",
        "gift": "You received a gift: 30 coins.", "left": "Ann is no longer live.",
        "end": "The host has ended the live stream.", "disabled": "Your account was disabled.",
    },
    "zh": {
        "request": "小本申请加你为好友。", "accepted": "小安同意了你的好友申请。",
        "live": "小安开播了。", "bought": "充值到账：50 金币。", "gift": "收到礼物：30 金币。",
        "left": "小安下播了。", "end": "主播已下播。", "disabled": "账号已停用。",
    },
}  # fmt: skip


class SentRequests:
    """The API requests of a page, by phone."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._requests: list[tuple[str, str]] = []
        page.on("request", self._add)

    def take(self, user: DemoUser) -> list[str]:
        """Return the operations that a phone has called since the last call of this method."""
        token = stored_phones(self._page)[user.side]["token"]
        taken = sorted(operation for sender, operation in self._requests if sender == token)
        self._requests = [request for request in self._requests if request[0] != token]
        return taken

    def wait_for(self, user: DemoUser, *operations: str) -> None:
        """Wait until a phone has called these operations, and no other ones."""
        taken: list[str] = []

        def is_complete() -> bool:
            taken.extend(self.take(user))
            return len(taken) >= len(operations)

        wait_until(self._page, is_complete, "requests")
        assert sorted(taken) == sorted(operations)

    def _add(self, request: Request) -> None:
        if request.method != "POST" or request.post_data is None:
            return
        fields = {name: values[0] for name, values in parse_qs(request.post_data).items()}
        selectors = [name for name, value in fields.items() if value == "1" and name != "value"]
        operation = " ".join([urlsplit(request.url).path, *selectors])
        self._requests.append((fields.get("token", ""), operation))


@pytest.fixture
def page_with_errors(context: BrowserContext) -> Page:
    """A page that can log errors, such as a failed connection."""
    return context.new_page()


def expect_announcement(user: DemoUser, text: str) -> None:
    expect(user.phone.get_by_role("status").get_by_text(text, exact=True)).to_be_visible()


def wait_until(page: Page, condition: Callable[[], object], description: str) -> None:
    """Wait up to 20 s; the page continues meanwhile."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited 20 s for {description}"
        page.wait_for_timeout(20)


@only_on_a_desk
def test_phones_learn_of_each_other_by_live_events_and_do_not_poll(
    page: Page, language: str
) -> None:
    texts = RECEIVED[language]
    ann, ben = open_demo(page, language)
    ann.register()
    ben.register()
    # A stream that begins before the start of the event server has a reset.
    page.wait_for_timeout(7000)
    requests = SentRequests(page)
    page.reload()
    wait_until_ready(page)
    page.wait_for_timeout(3000)
    assert [requests.take(user) for user in (ann, ben)] == [START, START]

    ben.press("find")
    ben.press("add")
    expect(ann.phone.locator(".badge")).to_have_text("1")
    expect_announcement(ann, texts["request"])
    # The event has no ids of messages, which the acceptance needs: one request for one event.
    assert requests.take(ann) == ["/list messagelist"]
    requests.take(ben)

    ann.open_tab("messages")
    ann.press("accept")
    expect(ben.phone.locator(".person")).to_have_count(1)
    expect_announcement(ben, texts["accepted"])
    assert requests.take(ben) == ["/list friendlist"]

    ann.open_tab("live")
    ann.press("go")
    ann.expect_focus_on_heading("on air")
    expect(ben.phone.locator(".live-button")).to_be_visible()
    expect_announcement(ben, texts["live"])
    assert requests.take(ben) == []
    check_accessibility(page)

    requests.take(ann)
    ben.open_tab("coins")
    ben.activate(ben.phone.get_by_role("button", name="¥50"))
    expect(ben.coins).to_have_text("50")
    expect_announcement(ben, texts["bought"])
    ben.open_tab("friends")
    ben.press("watch")
    ben.activate(ben.phone.locator(".gift", has_text=LABELS[language]["rocket"]))
    expect(ann.phone.locator(".hint output")).to_have_text("30")
    expect_announcement(ann, texts["gift"])
    expect(ben.phone.locator(".hint output")).to_have_text("20")
    assert requests.take(ann) == []
    assert requests.take(ben) == ["/golden refill", "/golden send_gift"]

    ann.press("end")
    expect(ben.phone.locator(".player")).to_contain_text(texts["end"])
    expect_announcement(ben, texts["left"])
    check_accessibility(page)
    page.wait_for_timeout(2000)
    assert requests.take(ben) == []
    assert requests.take(ann) == ["/room leave"]


@only_on_a_desk
@only_in_english
def test_phones_miss_nothing_while_the_event_server_is_restarted(
    page_with_errors: Page, language: str, database: Database, events_address: str
) -> None:
    page = page_with_errors
    ann, ben = open_demo(page, language)
    ann.register()
    ben.register()
    befriend(ann, ben)
    ben.open_tab("coins")
    ben.activate(ben.phone.get_by_role("button", name="¥50"))
    expect(ben.coins).to_have_text("50")
    ann.open_tab("live")
    ann.press("go")
    ben.open_tab("friends")
    ben.press("watch")
    details = account(database, ann)

    kill_event_server(events_address)
    for user in (ann, ben):
        expect(user.phone.locator(".refresh")).to_be_visible()
    ben.activate(ben.phone.locator(".gift", has_text="rocket"))
    warn = partial(operator_accounts.warn, outbox=Outbox(enabled=True), account=details)
    database.run(partial(warn, text="No advertising"))
    ann.press("end")

    expect(ben.phone.locator(".player")).to_contain_text(
        RECEIVED["en"]["end"], timeout=RECONNECT_MS
    )
    ann.open_tab("coins")
    expect(ann.coins).to_have_text("30", timeout=RECONNECT_MS)
    # The warning is in no list.
    expect(page.locator(".call-log code", has_text="account_warned")).to_have_count(1)
    for user in (ann, ben):
        expect(user.phone.locator(".refresh")).to_be_hidden(timeout=RECONNECT_MS)
    kill_event_server(events_address)
    expect(ann.phone.locator(".refresh")).to_be_visible()
    ann.phone.locator(".refresh").focus()
    for user in (ann, ben):
        expect(user.phone.locator(".refresh")).to_be_hidden(timeout=RECONNECT_MS)
    ann.expect_focus_on_heading("coins")
    ann.open_tab("live")
    ann.press("go")
    ben.press("back")
    expect(ben.phone.locator(".live-button")).to_be_visible()


@only_on_a_desk
@only_in_english
def test_phone_requests_a_new_ticket_after_a_failed_connection(
    page_with_errors: Page, language: str
) -> None:
    page = page_with_errors
    page.add_init_script("Math.random = () => 0")
    rejection = {"status": 403, "headers": {"Access-Control-Allow-Origin": "*"}}
    page.route("**/events?ticket=*", lambda route: route.fulfill(**rejection), times=2)
    unavailable = {"status": 503, "headers": {"Retry-After": "2"}, "json": {"result": "0009"}}
    page.route("**/events", lambda route: route.fulfill(**unavailable), times=1)
    requests = SentRequests(page)
    ann, ben = open_demo(page, language)
    ben.register()
    expect(ben.phone.locator(".refresh")).to_be_visible()
    assert requests.take(ben).count("/events ticket") == 1
    expect(ben.phone.locator(".refresh")).to_be_hidden(timeout=RECONNECT_MS)
    assert requests.take(ben).count("/events ticket") == 3
    ann.register()
    befriend(ann, ben)


@only_on_a_desk
@only_in_english
def test_phone_without_a_response_to_its_connection_gets_a_refresh_button(
    page: Page, language: str
) -> None:
    connections: list[Route] = []

    def hold(route: Route) -> None:
        connections.append(route)

    page.route("**/events?ticket=*", hold, times=1)
    page.clock.install()
    ann, _ = open_demo(page, language)
    ann.register()
    wait_until(page, lambda: connections, "a connection")
    expect(ann.phone.locator(".refresh")).to_be_hidden()
    page.clock.fast_forward(15_000)
    expect(ann.phone.locator(".refresh")).to_be_visible()
    page.clock.fast_forward(5000)
    expect(ann.phone.locator(".refresh")).to_be_hidden()


@only_on_a_desk
@only_in_english
def test_user_whose_login_tokens_are_revoked_sees_the_login_screen(
    page: Page, language: str, database: Database
) -> None:
    ann, _ = open_demo(page, language)
    ann.register()
    revoke = partial(operator_accounts.revoke, outbox=Outbox(enabled=True))
    database.run(partial(revoke, account=account(database, ann)))
    expect(ann.phone.get_by_role("heading", name="Log in")).to_be_visible(timeout=RECONNECT_MS)
    expect(ann.phone.locator(".notice.bad")).to_contain_text("0012")


@only_on_a_desk
def test_disabled_user_sees_the_login_screen(page: Page, language: str, database: Database) -> None:
    ann, ben = open_demo(page, language)
    ann.register()
    ben.register()
    details = account(database, ann)
    database.run(partial(operator_accounts.disable, outbox=Outbox(enabled=True), account=details))
    expect(ann.phone.locator(".notice.bad")).to_contain_text(RECEIVED[language]["disabled"])
    expect(ann.phone.locator(".tabs")).to_have_count(0)
    expect(ben.phone.locator(".tabs")).to_be_visible()
    page.wait_for_timeout(6000)
    assert not stored_phones(page)["a"]["token"]


@only_on_a_desk
@only_in_english
def test_demo_without_live_events_has_a_button_that_reads_the_lists(
    page_with_errors: Page, language: str
) -> None:
    page = page_with_errors
    page.route("**/events", lambda route: route.fulfill(status=404, json={"result": "0003"}))
    ann, ben = open_demo(page, language)
    ann.register()
    ben.register()
    requests = SentRequests(page)
    ben.press("find")
    ben.press("add")
    check_accessibility(page)
    page.wait_for_timeout(3000)
    assert requests.take(ann) == []
    ann.activate(ann.phone.get_by_role("button", name="Refresh"))
    expect(ann.phone.locator(".badge")).to_have_text("1")
    assert requests.take(ann) == ["/golden balance", "/list friendlist", "/list messagelist"]
    ann.open_tab("messages")
    ann.press("accept")
    ben.activate(ben.phone.get_by_role("button", name="Refresh"))
    expect(ben.phone.locator(".person")).to_have_count(1)
    ben.open_tab("coins")
    ben.activate(ben.phone.get_by_role("button", name="¥50"))
    expect(ben.coins).to_have_text("50")


@only_on_a_desk
@only_in_english
def test_phone_drops_repeated_events_and_reads_the_lists_after_missed_ones(
    page: Page, language: str, server: Server
) -> None:
    stream = ScriptedStream(page, server.address)
    requests = SentRequests(page)
    ann, _ = open_demo(page, language)
    ann.register()
    requests.wait_for(ann, "/friend search", *START)

    stream.last_number = 6
    parameters = stream.send(warning(5, "old"), warning(6, "first"), warning(6, "again"))
    assert parameters == {"ticket": ["secret"]}
    expect_announcement(ann, "Warning: first")
    requests.wait_for(ann, "/events ticket")

    # Event 7 is missing.
    stream.last_number = 8
    parameters = stream.send(warning(6, "again"), warning(8, "second"), first_id=10)
    assert parameters == {"ticket": ["secret"], "last": ["9:3"]}
    expect_announcement(ann, "Warning: second")
    requests.wait_for(ann, *START)

    reset = {"v": 1, "type": "reset", "data": {"operations": ["/golden balance=1"]}}
    assert stream.send(reset, first_id=20)["last"] == ["9:11"]
    requests.wait_for(ann, "/events ticket", "/golden balance")

    # The next ticket has a higher number than the last event.
    stream.last_number = 12
    assert stream.send()["last"] == ["9:20"]
    requests.wait_for(ann, *START)

    # The lists include events 9 to 12, so their absence is no gap.
    stream.last_number = 13
    stream.send(warning(11, "third"), warning(13, "fourth"), first_id=30)
    expect_announcement(ann, "Warning: fourth")
    requests.wait_for(ann, "/events ticket")
    log = page.locator(".call-log li", has_text="account_warned").locator("pre")
    texts = [orjson.loads(text)["data"]["text"] for text in log.all_text_contents()]
    assert texts == ["fourth", "third", "second", "first"]


def account(database: Database, user: DemoUser) -> operator_accounts.AccountDetails:
    number = user.phone.locator(".number").inner_text()
    details = database.run_autocommit(
        partial(operator_accounts.find_account_details, user_id=number)
    )
    assert details
    return details


def kill_event_server(address: str) -> None:
    [pid] = listening_pids(address)
    os.kill(pid, signal.SIGKILL)


class ScriptedStream:
    """Responds to the tickets and the connections of Ann's event stream.

    The connections have no pause between them. Each one waits until `send` ends it.
    """

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        self._address = address
        # The number of the next ticket.
        self.last_number = 5
        self._connections: list[Route] = []
        page.add_init_script("Math.random = () => 0")
        page.route("**/events", self._issue)
        page.route("**/scripted?**", self._hold)

    def send(self, *events: dict[str, Any], first_id: int = 1) -> dict[str, list[str]]:
        """Send events, and end the connection; return the parameters of its URL."""
        wait_until(self._page, lambda: self._connections, "a connection")
        route = self._connections.pop(0)
        lines = [
            f"event: {event['type']}\nid: 9:{event_id}\ndata: {orjson.dumps(event).decode()}\n\n"
            for event_id, event in enumerate(events, first_id)
        ]
        route.fulfill(
            body="".join(lines), headers={"Content-Type": "text/event-stream; charset=utf-8"}
        )
        return parse_qs(urlsplit(route.request.url).query)

    def _hold(self, route: Route) -> None:
        self._connections.append(route)

    def _issue(self, route: Route) -> None:
        channels = [{"channel": "user.7", "seq": self.last_number}]
        url = f"{self._address}/scripted?ticket=secret"
        message = {"url": url, "expiresIn": 60, "channels": channels}
        route.fulfill(json={"result": "0000", "message": message})


def warning(seq: int, text: str) -> dict[str, Any]:
    data = {"text": text}
    return {"v": 1, "type": "account_warned", "channel": "user.7", "seq": seq, "data": data}
