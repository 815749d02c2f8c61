"""Tickets for event streams."""

import pytest

from livebackend.core.signing import Signer
from livebackend.events.tickets import EventTickets, IssuedTicket
from tests.support.clock import FakeClock

SECRETS = ["a-secret-of-the-tests-that-is-long-enough"]
NOW = 1_000_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def tickets(clock: FakeClock) -> EventTickets:
    return EventTickets(SECRETS, clock=clock)


def issue(tickets: EventTickets, *, token_expires_at: int = NOW + 3600) -> IssuedTicket:
    return tickets.issue(
        token_id="abc", account_id=7, token_version=2, token_expires_at=token_expires_at
    )


def test_ticket_contains_the_login_token_for_which_it_was_issued(tickets: EventTickets) -> None:
    issued = issue(tickets)
    ticket = tickets.read(issued.text)
    assert ticket is not None
    assert ticket == ("abc", 7, 2, NOW + 60)
    assert ticket.issued_at == NOW
    assert issued.expires_in_s == 60


def test_probe_is_the_ticket_of_no_user(tickets: EventTickets, clock: FakeClock) -> None:
    text = tickets.issue_probe()
    probe, ticket = tickets.read(text), tickets.read(issue(tickets).text)
    assert probe is not None
    assert ticket is not None
    assert (probe.is_probe, ticket.is_probe) == (True, False)
    clock.now += 60
    assert tickets.read(text) is None


def test_ticket_expires_after_60_s(tickets: EventTickets, clock: FakeClock) -> None:
    text = issue(tickets).text
    clock.now += 59.9
    assert tickets.read(text)
    clock.now += 0.1
    assert tickets.read(text) is None


def test_ticket_expires_with_its_login_token(tickets: EventTickets, clock: FakeClock) -> None:
    issued = issue(tickets, token_expires_at=NOW + 5)
    assert issued.expires_in_s == 5
    clock.now += 5
    assert tickets.read(issued.text) is None


def test_ticket_of_another_server_is_invalid(tickets: EventTickets, clock: FakeClock) -> None:
    other = EventTickets(["another-secret"], clock=clock)
    assert tickets.read(issue(other).text) is None


def test_ticket_that_an_earlier_secret_signed_is_valid(clock: FakeClock) -> None:
    text = issue(EventTickets(SECRETS, clock=clock)).text
    assert EventTickets(["new-secret", *SECRETS], clock=clock).read(text)


@pytest.mark.parametrize("kind", ["login", "codes"])
def test_value_that_was_signed_for_another_purpose_is_invalid(
    kind: str, tickets: EventTickets
) -> None:
    claims = {"typ": "events", "jti": "abc", "sub": 7, "v": 2, "exp": NOW + 60}
    assert tickets.read(Signer(SECRETS, kind=kind).sign(claims)) is None
    assert tickets.read(Signer(SECRETS, kind="events").sign(claims))


@pytest.mark.parametrize(
    "changed",
    [{"typ": "login"}, {"jti": 5}, {"sub": "7"}, {"v": None}, {"exp": str(NOW + 60)}, {"v": True}],
)
def test_ticket_with_claims_of_other_types_is_invalid(
    changed: dict[str, object], tickets: EventTickets
) -> None:
    claims = {"typ": "events", "jti": "abc", "sub": 7, "v": 2, "exp": NOW + 60}
    assert tickets.read(Signer(SECRETS, kind="events").sign({**claims, **changed})) is None


@pytest.mark.parametrize("text", [None, "", "x", "a.b", 5, "é" * 50, "x" * 5000])
def test_text_that_is_no_ticket_is_invalid(text: object, tickets: EventTickets) -> None:
    assert tickets.read(text) is None
