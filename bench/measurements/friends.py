"""Friend requests: one user sends a request, another accepts it, and later ends the friendship.

The servers do not need valid message ids to accept a friend request. So the benchmark sends
invented ids, and does not request the message lists first.
"""

from bench.fill_database import phone_number
from bench.harness import LIVEBACKENDS, Bench
from bench.load import Call
from livebackend_client import Client

_PAIRS_PER_SERVER = 1500


def measure_friend_requests(bench: Bench) -> None:
    pairs = {
        server: [(n, n + 1) for n in range(first_id, first_id + 2 * _PAIRS_PER_SERVER, 2)]
        for server, first_id in (("livebackend", 2000), ("before", 12_000), ("baseline", 22_000))
        if server in bench.servers
    }
    bench.measure_ordered(
        "add + accept",
        {
            server: [_request_and_acceptance(bench, *pair) for pair in server_pairs]
            for server, server_pairs in pairs.items()
        },
    )
    bench.measure_ordered(
        "unfriend",
        {
            server: [
                [Call(Client.unfriend, bench.token(a), {"user_id": phone_number(b)})]
                for a, b in pairs[server][:1000]
            ]
            for server in bench.running(LIVEBACKENDS)
        },
        clients=4,
    )


def _request_and_acceptance(bench: Bench, applicant: int, addressee: int) -> list[Call]:
    acceptance_parameters = {
        "user_id": phone_number(applicant),
        "verify_id": f"{phone_number(addressee)},1",
        "object_id": f"{phone_number(applicant)},1",
        "behaviour": "accept",
    }
    return [
        Call(Client.add, bench.token(applicant), {"user_id": phone_number(addressee)}),
        Call(Client.deal_message, bench.token(addressee), acceptance_parameters),
    ]
