"""The processes of `make bench-attacks`."""

import os
from collections.abc import Iterator

import pytest

from bench import attacks
from bench.attacks import Attack, Post, form
from tests.support.servers import free_port


@pytest.mark.processes
def test_measurement_ends_with_an_error_if_the_process_of_the_attack_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(_: int) -> Iterator[Post]:
        os._exit(1)

    monkeypatch.setattr(attacks, "SECONDS", 0.2)
    with pytest.raises(RuntimeError, match="gifts: the process of the attack has died"):
        attacks.measure(free_port(), form("/list"), Attack("gifts", 1, die))
