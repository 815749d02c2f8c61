"""The memory of livebackend before the first request and under full load."""

import os

from bench.harness import (
    CONNECTION_COUNT,
    LIVEBACKENDS,
    WORKER_COUNT,
    Bench,
    list_forms,
    listed_accounts,
)
from bench.load import run_wrk
from bench.machine import memory_mb

_SECONDS = float(os.environ.get("BENCH_FULL_LOAD_SECONDS", "60"))


def measure_memory(bench: Bench) -> None:
    forms = list_forms("friendlist", listed_accounts())(bench.token)
    for name in bench.running(LIVEBACKENDS):
        server = bench.servers[name]
        samples_mb = [memory_mb(server.pids)]
        for _ in range(2):
            run_wrk(
                server.port,
                "/list",
                forms,
                folder=bench.folder,
                seconds=_SECONDS / 2,
                connections=CONNECTION_COUNT,
            )
            samples_mb.append(memory_mb(server.pids))
        bench.meter.notes[f"memory, {name}"] = (
            f"{samples_mb[0]:.0f} MB idle; {samples_mb[1]:.0f} MB after {_SECONDS / 2:.0f} s of"
            f" full load, {samples_mb[2]:.0f} MB after {_SECONDS:.0f} s"
            f" (parent process and {WORKER_COUNT} workers; shared pages counted once)"
        )
        print(bench.meter.notes[f"memory, {name}"], flush=True)
