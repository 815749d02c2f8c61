"""The friend list, the message list and the search, also by the length of the list."""

from collections.abc import Callable

from bench import fill_database
from bench.harness import LIVEBACKENDS, Bench, Token, list_forms, listed_accounts, rng
from bench.measure import post_form


def measure_lists(bench: Bench) -> None:
    for title, selector in (
        ("friend list of 100", "friendlist"),
        ("message list of 50", "messagelist"),
    ):
        forms = list_forms(selector, listed_accounts())
        bench.measure_repeated(title, "/list", forms, fastapi_path=f"/{selector}")


def measure_searches(bench: Bench) -> None:
    bench.measure_repeated("search", "/friend", search_forms(99_000), fastapi_path="/search")


def search_forms(last_account: int) -> Callable[[Token], list[str]]:
    account_pairs = [
        (rng.randint(2000, last_account), rng.randint(2000, last_account)) for _ in range(20_000)
    ]
    return lambda token: [
        f"search=1&token={token(me)}&userId={fill_database.phone_number(other)}"
        for me, other in account_pairs
    ]


def measure_list_sizes(bench: Bench) -> None:
    cpu_and_bytes_by_size = {}
    for friend_count, account in sorted(
        {**fill_database.ACCOUNT_BY_LIST_SIZE, fill_database.FRIENDS_PER_ACCOUNT: 1}.items()
    ):
        forms = list_forms("friendlist", [account])
        rows = bench.measure_repeated(
            f"list of {friend_count} friends", "/list", forms, servers=LIVEBACKENDS, connections=4
        )
        response = post_form(bench.servers["livebackend"], "/list", forms(bench.token)[0])
        cpu_and_bytes_by_size[friend_count] = rows["livebackend"].cpu, len(response.content)
    base_cpu, base_bytes = cpu_and_bytes_by_size[fill_database.FRIENDS_PER_ACCOUNT]
    bench.meter.notes["friend list, relative to 100 friends"] = "; ".join(
        f"{friend_count} friends: {cpu / base_cpu:.2f} × the CPU,"
        f" {byte_count / base_bytes:.2f} × the bytes"
        for friend_count, (cpu, byte_count) in cpu_and_bytes_by_size.items()
    )
