"""The mixed load: clients that send requests with known responses, one at a time."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from tests.chaos import calls
from tests.chaos.classification import Call, Outcome, Result, classify
from tests.chaos.client import Endpoint, HttpClient
from tests.chaos.users import Account, User, Users

# A gift is repeated with its request id until it is confirmed, at most for this time.
RETRY_FOR_S = 30.0
_RETRY_PAUSE_S = 0.1
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data; boundary=b"
_PICTURE_HEAD = b'--b\r\nContent-Disposition: form-data; name="img"; filename="a.png"\r\n\r\n'
_PICTURE_TAIL = b"\r\n--b--\r\n"
# nginx limits the requests and connections of each client address.
_CLIENTS_PER_ADDRESS = 4


@dataclass
class Gift:
    """A gift of a client, and whether a response confirmed it."""

    sender: Account
    request_id: str
    is_confirmed: bool = False


@dataclass
class Load:
    """Clients that run in threads from `start` to `stop`; the results of their requests.

    `errors` has the failures of the clients themselves.
    """

    users: Users
    endpoint: Endpoint
    client_count: int
    pause_s: float = 0.2
    # Without streams, no client goes live.
    with_streams: bool = True
    results: list[Result] = field(default_factory=list)
    gifts: list[Gift] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _is_stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        chosen_users = self.users.users[: self.client_count]
        assert len(chosen_users) == self.client_count
        for number, user in enumerate(chosen_users):
            client = _Client(self, number, user)
            self._threads.append(threading.Thread(target=client.run, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait until each client has finished its step."""
        self._is_stopping.set()
        deadline = time.monotonic() + 2 * RETRY_FOR_S
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self.errors.append("a client did not end in time")

    def wait(self, pause_s: float) -> bool:
        """Pause a client; return whether the load continues."""
        return not self._is_stopping.wait(pause_s)

    @property
    def is_running(self) -> bool:
        return not self._is_stopping.is_set()


class _Client:
    """One client, its user, and what it knows of the user's state."""

    def __init__(self, load: Load, number: int, user: User) -> None:
        self._load = load
        self._user = user
        self._number = number
        self._random = random.Random(number)
        address_number = number // _CLIENTS_PER_ADDRESS
        self._http = HttpClient(load.endpoint, f"127.0.1.{1 + address_number}")
        self._gift_number = itertools.count()
        self._nickname_number = itertools.count()
        # The prefix distinguishes the request ids and nicknames of two loads with the same user.
        self._prefix = f"{time.time_ns():x}-{number}"

    def run(self) -> None:
        """Send requests until the load stops; an error of the client becomes one of the load."""
        try:
            self._run_steps()
        except Exception as error:  # noqa: BLE001  # a thread has no caller
            self._load.errors.append(f"client {self._number} failed: {error!r:.500}")
        finally:
            self._http.close()

    def _run_steps(self) -> None:
        steps: Sequence[tuple[Callable[[], object], int]] = (
            (lambda: self._send(calls.friend_list(self._user)), 25),
            (lambda: self._send(calls.message_list(self._user)), 15),
            (self._search, 20),
            (self._give, 20),
            (lambda: self._send(calls.log_in(self._user, self._load.users.tokens)), 8),
            (self._go_live_and_leave, 6 if self._load.with_streams else 0),
            (self._change_profile, 3),
            (lambda: self._send(calls.upload()), 3),
        )
        functions, weights = zip(*steps, strict=True)
        # The clients do not start at the same moment.
        self._load.wait(self._random.uniform(0, self._load.pause_s))
        while self._load.is_running:
            (step,) = self._random.choices(functions, weights)
            step()
            self._load.wait(self._random.uniform(0.5, 1.5) * self._load.pause_s)

    def _search(self) -> None:
        friend = self._random.choice(self._user.friends)
        self._send(calls.search(self._user, friend, friend.nickname, "1"))

    def _give(self) -> None:
        request_id = f"{self._prefix}-{next(self._gift_number)}"
        gift = Gift(self._user.account, request_id)
        self._load.gifts.append(gift)
        host = self._random.choice(self._load.users.hosts)
        gift.is_confirmed = self._send_until_answered(
            lambda _: calls.gift(self._user, host, request_id)
        )

    def _go_live_and_leave(self) -> None:
        is_live = self._send_until_answered(
            lambda attempt: calls.live(self._user, "chaos", can_be_opening=attempt > 0)
        )
        if is_live:
            self._send_until_answered(
                lambda attempt: calls.leave(self._user, can_be_closed=attempt > 0)
            )

    def _change_profile(self) -> None:
        nickname = f"{self._number}-{next(self._nickname_number)}"
        if self._send_until_answered(lambda _: calls.profile(self._user, nickname)):
            self._send(calls.search(self._user, self._user.account, nickname, "-1"))

    def _send_until_answered(self, call: Callable[[int], Call]) -> bool:
        """Repeat a call until it is answered; return whether it was. A wrong response ends it.

        `call` gets the number of the attempt.
        """
        deadline = time.monotonic() + RETRY_FOR_S
        for attempt in itertools.count():
            outcome = self._send(call(attempt))
            if outcome in (Outcome.ANSWERED, Outcome.WRONG) or time.monotonic() > deadline:
                return outcome is Outcome.ANSWERED
            time.sleep(_RETRY_PAUSE_S)
        raise AssertionError("unreachable: the loop has no end")

    def _send(self, call: Call) -> Outcome:
        result = send(self._http, call)
        self._load.results.append(result)
        return result.outcome


def send(client: HttpClient, call: Call) -> Result:
    """Send a call once, and classify its response."""
    if call.picture is None:
        body, content_type = urlencode(call.form).encode(), _FORM
    else:
        body, content_type = _PICTURE_HEAD + call.picture + _PICTURE_TAIL, _MULTIPART
    return classify(call, client.post(call.path, body, content_type))
