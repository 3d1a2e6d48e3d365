# Everything a user types. Each target sets up .venv first; a second call skips what is done.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint format bench-perception setup system-libraries clean

demo: setup
	$(BIN)/bodydouble demo

# Two processes: most tests keep one core busy.
TEST_PROCESSES ?= 2

test: setup
	$(BIN)/python -m pytest -n $(TEST_PROCESSES)

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Synthetic clips, memory, and where they are there the real recordings; prints frames per second of every stage.
DATA ?= $(or $(BODYDOUBLE_DATA),../shared/data)
KITCHEN := $(DATA)/rgbd_static_7scenes_kitchen
BENCH := $(BIN)/bodydouble bench perception

bench-perception: setup
	test ! -d $(KITCHEN) || $(BENCH) --real $(KITCHEN)
	test ! -d $(KITCHEN) || $(BIN)/python -m benchmarks.fusion runs/bench/perception/real/recording.mcap
	test ! -d $(DATA)/person_depth_utd_mhad || $(BIN)/python -m benchmarks.person_depth --data $(DATA)
	$(BENCH) --memory
	$(BENCH) --page docs/benchmarks_perception.md --picture docs/images/bench_perception.png

setup: system-libraries $(STAMP)

system-libraries:
	@scripts/system_libraries.sh

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 is needed, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11") if sys.version_info[:2] != (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

clean:
	rm -rf runs build dist *.egg-info
