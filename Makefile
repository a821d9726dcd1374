# pyro: everything that a developer or CI runs. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/sh

TARGET := $(CURDIR)/target
DIST := $(TARGET)/dist
HOST := x86_64-unknown-linux-gnu
# Both programs run wherever the kernel does, and start without a dynamic linker.
STATIC := RUSTFLAGS='-C target-feature=+crt-static'
# Also for those who build everything else somewhere else.
export CARGO_TARGET_DIR := $(TARGET)
export PYRO_TOOLS := $(TARGET)/tools
# Environments are built once for demo, tests and benchmarks.
export PYRO_ENVIRONMENT_CACHE_DIR := $(TARGET)/environments
# Tests that start guests of their own take these.
export PYRO_TEST_ENVIRONMENTS := $(PYRO_ENVIRONMENT_CACHE_DIR)
export PYRO_TEST_AGENT := $(DIST)/libexec/pyro/pyro-guest-agent
export PYRO_POWERCUT_WRITER := $(TARGET)/$(HOST)/agent/examples/powercut-writer
export PATH := $(PATH):/usr/sbin:/sbin:$(PYRO_TOOLS)/bin
PYRO := $(DIST)/bin/pyro
PYTHON ?= python3
VENV := $(TARGET)/python/venv
WHEELS := $(TARGET)/wheels
PYTEST = PYRO_TEST_WHEEL=$$(echo $(WHEELS)/*.whl) PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python -X dev -m pytest
NEXTEST := $(shell command -v cargo-nextest >/dev/null && echo 'nextest run' || echo 'test')

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

.PHONY: bootstrap
bootstrap: ## install what is missing on a Debian machine
	@scripts/bootstrap

.PHONY: build
build: bootstrap ## build pyro and its guest agent into target/dist
	@$(MAKE) --no-print-directory programs

.PHONY: programs
programs: $(PYRO_TOOLS)/bin/vhost-device-vsock
	$(STATIC) cargo build --locked --release --target $(HOST) -p pyro-cli
	$(STATIC) cargo build --locked --profile agent --target $(HOST) -p pyro-guest-agent
	install -D $(TARGET)/$(HOST)/release/pyro $(DIST)/bin/pyro
	install -D $(TARGET)/$(HOST)/agent/pyro-guest-agent $(DIST)/libexec/pyro/pyro-guest-agent
	install -D $(PYRO_TOOLS)/bin/vhost-device-vsock $(DIST)/libexec/pyro/vhost-device-vsock

$(PYRO_TOOLS)/bin/vhost-device-vsock:
	@echo '[programs] building vhost-device-vsock (two minutes)'
	CARGO_TARGET_DIR=$(PYRO_TOOLS)/build cargo install --quiet --locked --root $(PYRO_TOOLS) vhost-device-vsock@0.3.0
	rm -rf $(PYRO_TOOLS)/build

.PHONY: environment
environment: build ## build the environment debian:12 into target/environments
	PYRO_HOME=$(TARGET)/demo $(PYRO) env pull debian:12

.PHONY: demo
demo: environment ## run a command in a real guest
	@PYRO_HOME=$(TARGET)/demo $(PYRO) run debian:12 -- git --version; \
	status=$$?; PYRO_HOME=$(TARGET)/demo $(PYRO) daemon stop >/dev/null; exit $$status

.PHONY: writer
writer: bootstrap
	$(STATIC) cargo build --locked --profile agent --target $(HOST) -p pyro-store --example powercut-writer

.PHONY: suites
suites: bootstrap
	@scripts/suites

.PHONY: test
test: environment writer suites installed-wheel ## run all tests, some of them in a real guest
	@PYRO_HOME=$(TARGET)/demo $(PYRO) daemon stop >/dev/null
	cargo $(NEXTEST) --locked --workspace
	cargo test --locked --workspace --doc --quiet

	$(PYTEST)

$(VENV)/installed: python/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r python/requirements.txt
	touch $@

.PHONY: wheel
wheel: build $(VENV)/installed ## build the Python package, with all programs in it, into target/wheels
	rm -rf $(WHEELS)
	PATH=$(VENV)/bin:$$PATH PYRO_DIST=$(DIST) $(VENV)/bin/pip wheel . --quiet --disable-pip-version-check --no-deps \
	--no-build-isolation --wheel-dir $(WHEELS)

.PHONY: installed-wheel
installed-wheel: wheel
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall $(WHEELS)/*.whl

.PHONY: mcp-clients
mcp-clients: environment ## let the official MCP clients and their conformance suite use the server; takes npm
	@PYRO_HOME=$(TARGET)/demo $(PYRO) daemon stop >/dev/null
	PYTHON=$(PYTHON) scripts/mcp-clients $(PYRO)

.PHONY: sdist
sdist: $(VENV)/installed ## pack the source of the Python package, from which pip builds all of it, into target/wheels
	$(VENV)/bin/maturin sdist --out $(WHEELS)

.PHONY: python-test
python-test: environment installed-wheel ## test the wheel: the package, the examples, the documentation's snippets
	@PYRO_HOME=$(TARGET)/demo $(PYRO) daemon stop >/dev/null
	$(PYTEST)

.PHONY: python-leak
python-leak: export PYRO_LEAK_EXECS := 10000
python-leak: environment installed-wheel ## run 10,000 commands from one Python process, and see what stays of them
	@PYRO_HOME=$(TARGET)/demo $(PYRO) daemon stop >/dev/null
	$(PYTEST) python/tests/test_process.py -k nothing_behind

.PHONY: check
check: lint test ## what must pass before a change lands

.PHONY: lint
lint: ## formatting, clippy, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	else echo 'skipped: cargo-deny is not installed (cargo install cargo-deny)'; fi

.PHONY: fuzz
fuzz: ## run each fuzz target under libFuzzer for PYRO_FUZZ_SECONDS (60)
	@scripts/fuzz

.PHONY: bench
bench: environment installed-wheel ## measure what docs/performance.md reports
	cargo bench --locked -p pyro-store
	cargo bench --locked -p pyro-tests

.PHONY: torture
torture: environment ## kill the daemon 500 times under clients that work, and check what it promised
	cargo run --locked --release -p pyro-tests --bin torture

.PHONY: powercut
powercut: environment writer ## cut the power of a guest that writes a log, 30 times
	cargo run --locked --release -p pyro-tests --bin powercut

.PHONY: simulate
simulate: export PYRO_SIMULATION_SCHEDULES ?= 100000
simulate: ## run many schedules of core, engine and store in a simulated world
	cargo test --locked --release -p pyro-daemon --lib simulation::tests::schedules -- --nocapture

.PHONY: clean
clean: ## remove everything that was built
	-PYRO_HOME=$(TARGET)/demo $(PYRO) daemon stop
	cargo clean
