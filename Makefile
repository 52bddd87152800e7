# make demo | make test | make install | make soak; see README.md
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA := $(or $(PENSTOCK_TEST_DATA),$(wildcard ../shared/data))

.PHONY: install demo test unit lint soak gnugo chromium clean
install: $(STAMP)

# The stamp holds what was installed: a second call does nothing until the pins or the metadata change.
$(STAMP): pyproject.toml deploy/constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH; install Python 3.11 or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint deploy/constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/penstock demo $(if $(ONCE),--once) $(DEMO)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: install
	$(BIN)/pytest tests/unit

# Two lanes, since tests on clusters mostly wait: those that need none run beside them, and are printed after them.
ALONE := tests/unit tests/contract tests/workloads
test: export PENSTOCK_TEST_DATA := $(DATA)
test: lint gnugo chromium
ifdef TESTS
	$(BIN)/pytest -m "not soak" $(TESTS)
else
	@log=$$(mktemp); $(BIN)/pytest -m "not soak" --durations=15 $(ALONE) >$$log 2>&1 & alone=$$!; trap "kill $$alone 2>/dev/null" INT TERM; \
	$(BIN)/pytest -m "not soak" --durations=15 $(patsubst %,--ignore=%,$(ALONE)); clusters=$$?; \
	wait $$alone; alone=$$?; cat $$log; rm -f $$log; test $$clusters = 0 -a $$alone = 0
endif

soak: install gnugo chromium
	PENSTOCK_TEST_DATA="$(DATA)" PENSTOCK_FIGURES=tests/benchmarks/soak.jsonl $(BIN)/pytest -m soak -s $(TESTS)

# Whom the Go boards and matches are checked against; where it cannot be installed those tests skip and say so.
gnugo:
	@command -v gnugo >/dev/null || test -x /usr/games/gnugo || { test "$$(id -u)" = 0 && echo "GNU Go is missing: apt-get install -y gnugo" && apt-get install -y -qq gnugo >/dev/null; } || echo "GNU Go is missing and could not be installed: its tests skip (apt-get install gnugo)"

# The browser that the page at / is tried in; where it cannot be installed those tests skip and say so.
chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && echo "Chromium is missing: apt-get install -y chromium" && apt-get install -y -qq chromium >/dev/null; } || echo "Chromium is missing and could not be installed: its tests skip (apt-get install chromium)"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
