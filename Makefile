# `make` alone lists what can be made.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 6543
# What to hand on to pytest and others: make test ARGS='-k friend'
ARGS ?=
# What to profile.
OP ?= friendlist
SECONDS ?= 60
# How often each crash is tried.
RUNS ?= 50

# Never by the scripts beside it: their first lines hold a path, which may be too long or have blanks.
IN_VENV = .venv/bin/python -m

.PHONY: help run test media-test browser-test operations-test screenshots bank-test crash-test mutants bench bench-ledger bench-million profile install client lint format types clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

run: .venv/installed-dev ## serve on http://HOST:PORT with a PostgreSQL of its own, until Ctrl-C
	@echo "livebackend is on http://$(HOST):$(PORT) in a moment. Try:"
	@echo "  curl -d token=13800000001 http://127.0.0.1:$(PORT)/register"
	@exec $(IN_VENV) pyramid.scripts.pserve development.ini host=$(HOST) port=$(PORT)

test: .venv/installed-test ## run every test
	@exec $(IN_VENV) pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

media-test: .venv/installed-browser ## publish and watch streams with nginx, ffmpeg and Chromium
	@exec $(IN_VENV) pytest -m media tests/media $(ARGS)

bank-test: .venv/installed-test ## kill servers and databases under load for SECONDS, and count the coins
	@exec $(IN_VENV) tests.ledger_crash_test --seconds $(SECONDS) $(ARGS)

# Needs nginx and openssl.
crash-test: .venv/installed-test ## crash a server at each step of a gift, an order, an unfriend
	@exec $(IN_VENV) tests.crashes --runs $(RUNS) $(ARGS)

mutants: .venv/installed-test ## break the ledger in many ways, and see that its tests notice
	@exec $(IN_VENV) tests.mutants $(ARGS)

bench-ledger: .venv/installed-test ## measure gifts to a thousand hosts and to one
	@exec $(IN_VENV) bench.ledger $(ARGS)

bench-million: .venv/installed-test ## measure the audit and the records of a million transfers
	@exec $(IN_VENV) bench.million $(ARGS)

browser-test: .venv/installed-browser ## run the tests in Debian's Chromium: apt install chromium fonts-noto-cjk
	@exec $(IN_VENV) pytest tests/browser $(ARGS)

screenshots: .venv/installed-browser ## take the pictures in docs/screenshots anew
	@exec $(IN_VENV) pytest tests/browser -k 'story or reads' --screenshots docs/screenshots
# On Debian: apt install nginx openssl curl faketime docker-compose systemd; the disk and clock of
# tests need root.
operations-test: .venv/installed-test ## run what docs/operations.md and deploy/ say
	@exec $(IN_VENV) pytest tests/operations $(ARGS)

install: .venv/installed-dev ## make .venv

client: .venv/installed-dev ## write the Python client anew from the operations
	@$(IN_VENV) livebackend.client_writer

lint: .venv/installed-test,lint ## check the style
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .

format: .venv/installed-test,lint ## mend the style
	@$(IN_VENV) ruff check --fix-only .
	@$(IN_VENV) ruff format .

# On this machine's loopback alone. BENCH_SECONDS=2 BENCH_ROUNDS=2 for a quick look.
bench: .venv/installed-bench ## measure every operation beside the floor and the peer (needs wrk)
	@PYTHONWARNINGS=ignore exec $(IN_VENV) bench

profile: .venv/installed-bench ## tell where the time of an operation goes: make profile OP=friendlist
	@PYTHONWARNINGS=ignore exec $(IN_VENV) bench.profile $(OP)

types: .venv/installed-test,lint ## check the types
	@$(IN_VENV) mypy

clean: ## remove all that was made but the data in var/
	rm -rf .venv build dist *.egg-info .hypothesis .*_cache

# Installs extras of setup.py. Who comes second waits for the first, and finds it done.
.venv/installed-%: setup.py
	@flock setup.py sh -ec ' \
		[ ! "$@" -nt setup.py ] || exit 0; \
		$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
			|| { echo "livebackend needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }; \
		.venv/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv \
			|| { echo "A .venv could not be made. On Debian: apt install python3-venv" >&2; exit 1; }; \
		echo "installing into .venv"; \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"; \
		touch "$@"'
