"""Fixtures for tests with the settings of production.ini and fake gateways."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import App, PhoneClient, UserClient
from tests.support.database_state import AssertNoSideEffects, DatabaseState


@pytest.fixture(scope="session")
def hardened_app(new_hardened_app: Callable[..., App]) -> App:
    return new_hardened_app(streams__gateway="tests.support.fake_gateways.RecordingStreams")


@pytest.fixture(scope="session")
def app(hardened_app: App) -> App:
    return hardened_app


@pytest.fixture
def ann(phone_of_ann: PhoneClient) -> UserClient:
    return phone_of_ann.register(nickname="Ann")


@pytest.fixture
def ben(phone_of_ben: PhoneClient) -> UserClient:
    return phone_of_ben.register(nickname="Ben")


@pytest.fixture
def assert_no_side_effects(
    database_state: DatabaseState, services: Services
) -> AssertNoSideEffects:
    """Check that a `with` block changes no row or file and calls no gateway."""
    sms: Any = services.gateways.sms
    streams: Any = services.gateways.streams

    def call_counts() -> list[int]:
        return [len(calls) for calls in (sms.sent, streams.created, streams.disabled)]

    @contextmanager
    def assert_no_side_effects() -> Iterator[None]:
        counts_before = call_counts()
        with database_state.assert_unchanged():
            yield
        assert call_counts() == counts_before

    return assert_no_side_effects
