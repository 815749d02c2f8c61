"""Clients that break off and resume while events are published."""

from itertools import pairwise

from bench.events.engines import EngineBench, missing_events
from bench.events.rows import Results, Row

_CHANNELS, _CLIENTS_PER_CHANNEL = 4, 50
# For each channel, so that each client receives 60 events/s.
_RATE, _SECONDS = 60, 10
_BREAKS = 6
_FIRST_ACCOUNT = 101
_CATCH_UP_S = 60


def measure_recovery(bench: EngineBench, results: Results) -> None:
    accounts = range(_FIRST_ACCOUNT, _FIRST_ACCOUNT + _CHANNELS)
    account_ids = [account for account in accounts for _ in range(_CLIENTS_PER_CHANNEL)]
    expected = dict.fromkeys(accounts, _RATE * _SECONDS)
    with bench.subscribe(account_ids, breaks=_BREAKS, seconds=_SECONDS) as clients:
        clients.start_breaks()
        bench.write_events(accounts, rate=_RATE * _CHANNELS, seconds=_SECONDS)
        bench.wait_until_published()
        clients.wait_for(len(account_ids) * _RATE * _SECONDS, _CATCH_UP_S)
    lost = missing_events(clients, account_ids, expected)
    wrong = sum(
        later.event["seq"] != earlier.event["seq"] + 1
        for events in clients.events_by_client().values()
        for earlier, later in pairwise(events)
    )
    statistics = clients.statistics
    results.add(
        Row(
            f"{len(account_ids)} clients break off and resume, {_RATE} events/s for {_SECONDS} s",
            bench.name,
            f"{lost} lost, {wrong} twice or out of order; {statistics['breaks']} breaks,"
            f" {statistics['duplicates']} repeated events dropped by their `seq`,"
            f" {statistics['resets']} resets",
            "0 lost, 0 twice",
            not lost and not wrong and not statistics["refused"],
        )
    )
