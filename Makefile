# The entry to everything, by hand and in CI. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DIRS = $(wildcard telepathy_e2e tests demo benchmarks docs/*.py)
PYTEST = $(BIN)/python -m pytest

# Tests, demo and benchmarks start our programs a thousand times. Where the environment forbids Python to
# keep what it has compiled, as in many containers, each start would compile everything again.
export PYTHONDONTWRITEBYTECODE =

# How long coverage-guided fuzzing looks at each parser.
SECONDS ?= 60

PREFIX ?= $(HOME)/.local
DESTDIR ?=
LIBDIR = $(PREFIX)/share/telepathy-e2e
SERVICE = org.freedesktop.Telepathy.ConnectionManager.e2e.service
AGENT_SERVICE = org.freedesktop.Telepathy.E2E.KeyAgent.service
SERVICES = $(PREFIX)/share/dbus-1/services
MANAGERS = $(PREFIX)/share/telepathy/managers
CLIENTS = $(PREFIX)/share/telepathy/clients
TRUST_SERVICE = org.freedesktop.Telepathy.Client.E2ETrust.service

.PHONY: help venv lint unit check test demo playground bench cov fuzz diagrams install uninstall clean

help:
	@echo 'make venv       a virtual environment in $(VENV) with everything the others need'
	@echo 'make check      lint, types, import rules, unit tests, short fuzzing'
	@echo 'make test       check, and the scenarios: real bus, real servers, real clients'
	@echo 'make demo       a file from one account to another, protected, the wire tapped (FILE=...)'
	@echo 'make playground a shell with a private bus, a server, and accounts alice and bob'
	@echo 'make bench      the numbers'
	@echo 'make cov        coverage of the tests, as a table and in htmlcov/'
	@echo 'make fuzz       the fuzzers for longer, and guided by coverage (SECONDS=60 for each parser)'
	@echo 'make diagrams   the pictures in docs/states/, from the tables of moves'
	@echo 'make install    to PREFIX (now $(PREFIX)); DESTDIR is honoured; make uninstall'

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

lint: venv
	$(BIN)/ruff check $(DIRS)
	$(BIN)/ruff format --check $(DIRS)
	$(BIN)/mypy $(DIRS)
	$(BIN)/lint-imports

unit: venv
	$(PYTEST) -q tests/unit tests/fuzz

check: lint unit

# One run over everything, so that the closing line speaks of everything. Three at once, since scenarios
# mostly wait: two leave 40 % of two cores unused. A file's tests stay together, they share a server.
test: lint
	$(PYTEST) tests -n 3 --dist loadfile

demo: venv
	$(BIN)/python -m demo $(if $(FILE),--file '$(FILE)')

playground: venv
	$(BIN)/python -m demo.playground

bench: venv
	$(BIN)/python -m benchmarks.run

cov: venv
	$(BIN)/coverage run --branch --source telepathy_e2e -m pytest -q tests
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --skip-covered

fuzz: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(PYTEST) -q tests/unit tests/fuzz -m hypothesis --hypothesis-profile=long
	SECONDS=$(SECONDS) $(BIN)/python -m tests.fuzz.guided

diagrams: venv
	$(BIN)/python docs/make_state_diagrams.py

# The virtual environment is moved from DESTDIR to its place later, so its scripts must not name DESTDIR.
install:
	install -d '$(DESTDIR)$(LIBDIR)' '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(SERVICES)' '$(DESTDIR)$(MANAGERS)' '$(DESTDIR)$(CLIENTS)'
	$(PYTHON) -m venv --clear '$(DESTDIR)$(LIBDIR)/venv'
	'$(DESTDIR)$(LIBDIR)/venv/bin/python' -m pip install --quiet --disable-pip-version-check .
	$(if $(DESTDIR),grep -rlI '$(DESTDIR)$(LIBDIR)' '$(DESTDIR)$(LIBDIR)/venv/bin' '$(DESTDIR)$(LIBDIR)/venv/pyvenv.cfg' | xargs -r sed -i 's|$(DESTDIR)$(LIBDIR)|$(LIBDIR)|g')
	for program in tpe2e telepathy-e2e telepathy-e2e-agent telepathy-e2e-trust; do ln -sfn "$(LIBDIR)/venv/bin/$$program" "$(DESTDIR)$(PREFIX)/bin/$$program"; done
	sed 's|@EXEC@|$(LIBDIR)/venv/bin/telepathy-e2e|' data/dbus-services/$(SERVICE).in > '$(DESTDIR)$(SERVICES)/$(SERVICE)'
	sed 's|@EXEC@|$(LIBDIR)/venv/bin/telepathy-e2e-agent|' data/dbus-services/$(AGENT_SERVICE).in > '$(DESTDIR)$(SERVICES)/$(AGENT_SERVICE)'
	sed 's|@EXEC@|$(LIBDIR)/venv/bin/telepathy-e2e-trust|' data/dbus-services/$(TRUST_SERVICE).in > '$(DESTDIR)$(SERVICES)/$(TRUST_SERVICE)'
	install -m 644 data/telepathy-clients/E2ETrust.client '$(DESTDIR)$(CLIENTS)/E2ETrust.client'
	install -m 644 data/dbus-services/e2e.manager '$(DESTDIR)$(MANAGERS)/e2e.manager'

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/bin/tpe2e' '$(DESTDIR)$(PREFIX)/bin/telepathy-e2e' '$(DESTDIR)$(PREFIX)/bin/telepathy-e2e-agent'
	rm -f '$(DESTDIR)$(SERVICES)/$(SERVICE)' '$(DESTDIR)$(SERVICES)/$(AGENT_SERVICE)' '$(DESTDIR)$(MANAGERS)/e2e.manager'
	rm -f '$(DESTDIR)$(PREFIX)/bin/telepathy-e2e-trust' '$(DESTDIR)$(SERVICES)/$(TRUST_SERVICE)' '$(DESTDIR)$(CLIENTS)/E2ETrust.client'
	rm -rf '$(DESTDIR)$(LIBDIR)'

clean:
	rm -rf $(VENV) build dist htmlcov .coverage *.egg-info
