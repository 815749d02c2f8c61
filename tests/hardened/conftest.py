"""Everything here runs as production.ini has it, with outside services that remember."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import App, Person, Phone, World

Harmless = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def hardened_app(new_hardened_app: Callable[..., App]) -> App:
    return new_hardened_app(streams__gateway="tests.support.fake_gateways.CountedStreams")


@pytest.fixture(scope="session")
def app(hardened_app: App) -> App:
    return hardened_app


@pytest.fixture
def ann(phone_of_ann: Phone) -> Person:
    return phone_of_ann.register(nickname="Ann")


@pytest.fixture
def ben(phone_of_ben: Phone) -> Person:
    return phone_of_ben.register(nickname="Ben")


@pytest.fixture
def harmless(world: World, services: Services) -> Harmless:
    """What happens inside changes no table and no file, sends no message, calls no provider."""
    sms: Any = services.gateways.sms
    streams: Any = services.gateways.streams

    def outside() -> list[int]:
        return [len(calls) for calls in (sms.sent, streams.created, streams.disabled)]

    @contextmanager
    def harmless() -> Iterator[None]:
        before = outside()
        with world.unchanged():
            yield
        assert outside() == before

    return harmless
