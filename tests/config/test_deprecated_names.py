"""Deprecated names of classes and loggers in ini files still work, with a warning."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest

from livebackend.config.deprecated_names import (
    RENAMED_CLASSES,
    RENAMED_LOGGERS,
    RENAMED_MODULES,
    configure_renamed_loggers,
    current_module,
)
from livebackend.config.settings import Settings
from livebackend.container import make_gateways
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS


@pytest.mark.parametrize("class_path", RENAMED_CLASSES.values())
def test_class_that_replaces_a_deprecated_name_exists(class_path: str) -> None:
    module, _, name = class_path.rpartition(".")
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize("module", RENAMED_MODULES.values())
def test_module_that_replaces_a_deprecated_name_exists(module: str) -> None:
    import_module(module)


@pytest.mark.parametrize("name", [*chain(*RENAMED_LOGGERS.values())])
def test_logger_that_replaces_a_deprecated_name_exists(name: str) -> None:
    import_module("livebackend.api.tweens" if name == "livebackend.access" else name)
    assert isinstance(logging.root.manager.loggerDict.get(name), logging.Logger)


def test_settings_accept_deprecated_gateway_names(caplog: pytest.LogCaptureFixture) -> None:
    deprecated_settings = {
        "sms.gateway": "livebackend.gateways.sms.EmbeddedSms",
        "streams.gateway": "livebackend.gateways.streams.EmbeddedStreams",
        "payments.gateway": "livebackend.gateways.payments.EmbeddedPayments",
    }
    gateways = make_gateways(
        Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **deprecated_settings}, {})
    )
    loaded_gateways = [gateways.sms, gateways.streams, *gateways.payments]
    assert [type(gateway).__name__ for gateway in loaded_gateways] == [
        "DevelopmentSms",
        "DevelopmentStreams",
        "DevelopmentPayments",
    ]
    for class_path in deprecated_settings.values():
        assert f"class {class_path} is deprecated: use {RENAMED_CLASSES[class_path]}" in caplog.text


def test_development_gateway_with_a_deprecated_name_needs_allow_development() -> None:
    deprecated_settings = {"sms.gateway": "livebackend.gateways.sms.EmbeddedSms"}
    with pytest.raises(ValueError, match=r"sms\.gateway: is a development gateway"):
        Settings.load({**REQUIRED_SETTINGS, **deprecated_settings}, {})


@pytest.mark.processes
@pytest.mark.parametrize("name", ["LineFormatter", "JsonFormatter"])
def test_logging_section_accepts_deprecated_formatter_names(name: str, tmp_path: Path) -> None:
    ini = tmp_path / "logging.ini"
    ini.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = console\n[formatters]\nkeys = old\n"
        "[logger_root]\nlevel = WARNING\nhandlers = console\n"
        "[handler_console]\nclass = StreamHandler\nargs = (sys.stderr,)\nformatter = old\n"
        f"[formatter_old]\nclass = livebackend.logs.{name}\n"
    )
    program = (
        "import logging.config, sys; logging.config.fileConfig(sys.argv[1]);"
        "logging.warning('of 13812345678')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, ini], capture_output=True, text=True, check=True
    )
    assert "of 138****5678" in result.stderr
    assert "livebackend.logs is deprecated: use livebackend.monitoring" in result.stderr


def test_unknown_attribute_of_the_package_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        import_module("livebackend").nothing  # noqa: B018


@pytest.fixture
def renamed_loggers() -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """Two loggers: one with a deprecated name and level ERROR, one with its new name."""
    deprecated_name = "livebackend.ledger_writer"
    loggers = (
        logging.getLogger(deprecated_name),
        logging.getLogger(*RENAMED_LOGGERS[deprecated_name]),
    )
    loggers[0].setLevel(logging.ERROR)
    yield loggers
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


def test_level_of_a_deprecated_logger_is_copied_to_its_new_name(
    renamed_loggers: tuple[logging.Logger, logging.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    configure_renamed_loggers()
    assert renamed_loggers[1].level == logging.ERROR
    assert "livebackend.ledger_writer is deprecated" in caplog.text


def test_handler_of_a_deprecated_logger_is_added_to_its_new_name(
    renamed_loggers: tuple[logging.Logger, logging.Logger],
) -> None:
    handler = logging.NullHandler()
    renamed_loggers[0].addHandler(handler)
    configure_renamed_loggers()
    assert handler in renamed_loggers[1].handlers
    renamed_loggers[1].removeHandler(handler)


def test_deprecated_module_name_raises_a_warning() -> None:
    with pytest.warns(FutureWarning, match="use livebackend.monitoring.log_formatters"):
        assert current_module("livebackend.logs") == "livebackend.monitoring.log_formatters"
