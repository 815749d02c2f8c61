"""Readiness checks of background threads, and of requests that do not end."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from livebackend.core.running_work import RunningWork
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.monitoring.health_checks import CheckFailed

# Every request and every call to a provider has a deadline far below this time.
_MAX_WORK_S = 120.0
_REMEDY = "Search the log for errors of this thread. If it does not recover, restart the server."


class ThreadHealth:
    """Checks the background threads of a process."""

    def __init__(
        self,
        threads: Sequence[SupervisedThread],
        work: Mapping[str, RunningWork],
        failed_tasks: Callable[[], frozenset[str]],
    ) -> None:
        self._threads = threads
        self._work = work
        self._failed_tasks = failed_tasks

    def check_required_threads(self) -> None:
        """Raise CheckFailed if a required thread cannot work now."""
        _raise_if_any(
            f"{thread.name}: {thread.problem}"
            for thread in self._threads
            if thread.is_required and thread.is_failed
        )

    def check_threads(self) -> None:
        """Raise CheckFailed if any thread failed or is blocked, or if work does not end.

        Starts the threads that could not be started.
        """
        for thread in self._threads:
            thread.retry_start()
        problems = [
            f"{thread.name}: {problem}" for thread in self._threads if (problem := thread.problem)
        ]
        problems += [f"housekeeping: task {name} failed" for name in sorted(self._failed_tasks())]
        problems += [
            f"{name}: one has run for {work.longest_s:.0f} s"
            for name, work in self._work.items()
            if work.longest_s > _MAX_WORK_S
        ]
        _raise_if_any(problems)


def _raise_if_any(problems: Iterable[str]) -> None:
    if message := "; ".join(problems):
        raise CheckFailed(message, remedy=_REMEDY)
