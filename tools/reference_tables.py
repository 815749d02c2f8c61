"""The reference tables in docs/, generated from the code.

Each function returns the lines of Markdown for one marker in a page. It passes each text that has a
Chinese version to `translate`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from prometheus_client.core import Metric
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import Operation
from livebackend.api.result_codes import ResultCode
from livebackend.cli import main
from livebackend.config.settings import Settings, environment_variable
from livebackend.core.running_work import RunningWork
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.development.sms import DevelopmentSms
from livebackend.events.declarations import EVENTS
from livebackend.gateways.events.protocol import EngineStatus
from livebackend.monitoring.event_engine_collector import EventEngineCollector
from livebackend.monitoring.metrics import (
    DiskSpaceCollector,
    LiveRoomsCollector,
    Metrics,
    OutboxCollector,
)
from tools.generate_client import declared_operations

Translate = Callable[[str], str]
HELP_WIDTH = 100
_PREVIOUS_SETTINGS = Path(__file__).with_name("settings_of_previous_release.txt")


def operations(translate: Translate) -> list[str]:
    """Return the operations of the API document."""
    return _operation_table(translate, documented=True)


def extensions(translate: Translate) -> list[str]:
    """Return the operations that are not in the API document."""
    return _operation_table(translate, documented=False)


def result_codes(translate: Translate) -> list[str]:
    """Return the result codes with their meanings in English and Chinese."""
    rows = [(f"`{code.code}`", code.english, code.chinese) for code in ResultCode]
    return _table(_translated(translate, "result code", "meaning", "meaning in Chinese"), rows)


def error_reasons(translate: Translate) -> list[str]:
    """Return the error reasons with their messages in English and Chinese."""
    rows = [(f"`{reason}`", reason.english, reason.chinese) for reason in ErrorReason]
    return _table(_translated(translate, "reason", "message", "message in Chinese"), rows)


def events(translate: Translate) -> list[str]:
    """Return the live events with their meanings in English and Chinese."""
    rows = [
        (
            f"`{event.type}`",
            event.description.english,
            event.description.chinese,
            " ".join(f"`{field.name}`" for field in event.fields),
            f"`{event.operation}`" if event.operation else "",
        )
        for event in EVENTS.values()
    ]
    header = ("event", "meaning", "meaning in Chinese", "data", "current state")
    return _table(_translated(translate, *header), rows)


def commands(translate: Translate) -> list[str]:
    """Return the commands of `livebackend`, each with one line of help."""
    rows = [
        (f"`livebackend {name}`", translate(command.get_short_help_str(limit=200)))
        for name, command in _subcommands(main)
    ]
    return _table(_translated(translate, "command", "description"), rows)


def command_help(_: Translate) -> list[str]:
    """Return the help of each command in a section of its own."""
    return [line for path, command in _all_commands() for line in _help_section(path, command)]


def settings(translate: Translate, *prefixes: str) -> list[str]:
    """Return the settings whose names start with one of the prefixes."""
    fields = Settings.fields_by_name()
    schemas = Settings.model_json_schema()["properties"]
    rows = [
        (
            f"`{name}`",
            _default(field, translate),
            _allowed_values(schemas[name]),
            translate(str(field.description)),
        )
        for prefix in prefixes
        for name, field in fields.items()
        if name == prefix or name.startswith(f"{prefix}.")
    ]
    return _table(_translated(translate, "setting", "default", "values", "description"), rows)


def new_settings(translate: Translate) -> list[str]:
    """Return the settings that the previous release refuses as unknown."""
    lines = _PREVIOUS_SETTINGS.read_text("utf-8").splitlines()
    previous_names = {line for line in lines if not line.startswith("#")}
    rows = [
        (f"`{name}`", f"`{environment_variable(name)}`")
        for name in sorted(Settings.fields_by_name())
        if name not in previous_names
    ]
    return _table(_translated(translate, "setting", "environment variable"), rows)


def metrics(translate: Translate) -> list[str]:
    """Return the metrics with their types and labels."""
    rows = [
        (
            f"`{_exposed_name(metric)}`",
            metric.type,
            " ".join(f"`{label}`" for label in _labels(metric)),
            translate(metric.documentation),
        )
        for metric in _example_metrics()
    ]
    return _table(_translated(translate, "metric", "type", "labels", "description"), rows)


def setting_prefixes() -> set[str]:
    """Return the part before the first dot of every setting."""
    return {name.partition(".")[0] for name in Settings.fields_by_name()}


def _translated(translate: Translate, *texts: str) -> list[str]:
    return [translate(text) for text in texts]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _operation_table(translate: Translate, *, documented: bool) -> list[str]:
    rows = [
        _operation_row(operation)
        for operation in declared_operations()
        if operation.documented is documented
    ]
    header = ("operation", "name in Chinese", "path", "selector", "parameters", "error codes")
    return _table(_translated(translate, *header), rows)


def _operation_row(operation: Operation) -> tuple[str, ...]:
    english, chinese = operation.title
    parameters = [
        f"`{name}`" if field.is_required() else f"[`{name}`]"
        for name, field in operation.parameters.model_fields.items()
    ]
    return (
        english,
        chinese,
        " ".join(f"`/{route}`" for route in operation.routes),
        f"`{operation.selector}`" if operation.selector else "",
        " ".join(parameters),
        " ".join(sorted(code.code for code in operation.result_codes - {ResultCode.OK})),
    )


def _all_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its full name; a group precedes its subcommands."""
    for name, command in _subcommands(main):
        yield f"livebackend {name}", command
        if isinstance(command, click.Group):
            for subname, subcommand in _subcommands(command):
                yield f"livebackend {name} {subname}", subcommand


def _subcommands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in sorted(group.list_commands(context)):
        if command := group.get_command(context, name):
            yield name, command


def _help_section(path: str, command: click.Command) -> list[str]:
    context = click.Context(
        command, info_name=path, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
    )
    return [f"## {path}", "", "```", *command.get_help(context).splitlines(), "```", ""]


def _default(field: FieldInfo, translate: Translate) -> str:
    if field.default is PydanticUndefined:
        return translate("(must be set)")
    value = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"`{value}`" if value else translate("(empty)")


def _allowed_values(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON Schema permits: names, or the bounds of a number."""
    if schema.get("type") == "boolean":
        return "`true` `false`"
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    bounds = {
        "≥": schema.get("minimum"),
        ">": schema.get("exclusiveMinimum"),
        "≤": schema.get("maximum"),
    }
    return ", ".join(
        f"{operator} {bound}" for operator, bound in bounds.items() if bound is not None
    )


def _example_metrics() -> list[Metric]:
    """Return the metrics with an example of each label, because a metric has no list of labels."""
    example = Metrics()
    example.registry.register(LiveRoomsCollector(lambda: 0))
    example.registry.register(OutboxCollector(lambda: (0, 0.0)))
    example.registry.register(EventEngineCollector(lambda: EngineStatus(0, 0, 0, 0, 0)))
    example.registry.register(DiskSpaceCollector(Path()))
    example.observe_request(operation="log_in", result="0000", status=500, seconds=0)
    example.instrument("sms", DevelopmentSms()).send("13800000001", "0000")
    example.observe_batch(1)
    example.count_published({"friend_live": 1})
    example.count_dropped({"friend_live": 1})
    example.count_event_connection("accepted")
    example.observe_threads([SupervisedThread("x", lambda: None)], {"x": RunningWork()})
    return list(example.registry.collect())


def _exposed_name(metric: Metric) -> str:
    # Prometheus adds this suffix to the names of counters.
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _labels(metric: Metric) -> list[str]:
    """Return the labels, without the label that Prometheus adds to the buckets of a histogram."""
    return [label for label in metric.samples[0].labels if label != "le"]
