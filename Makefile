# make run    everything `xbench run --methods all` does on the embedded suite, with a report
# make test   the fast tests        make test-slow   the others
# make chaos  200 kills of a small run, each resumed     make fuzz  10,000 hostile inputs
# make check  format, lint, types
# make bench  time methods and metrics against the limit and against their originals
# make audit  grade every metric on planted truth     make reproduce  what must hold, and what was found
# Each makes .venv first where it is missing or older than what it was made from.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.made-from-pyproject-and-constraints
CODE := xbench methods metrics datasets leaderboards tests benchmarks examples
TYPED := xbench methods metrics datasets leaderboards

.PHONY: site run test test-slow test-all check format lock docs matrix clean audit reproduce chaos fuzz bench

run: $(STAMP)
	$(VENV)/bin/xbench run --methods all --limit 6 --max-calls 250

test: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 -m "not slow and not chaos"

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 -m "slow"

test-all: test test-slow

chaos: $(STAMP)
	$(VENV)/bin/python tests/chaos.py --kills 200

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/fuzz.py --inputs 10000

check: $(STAMP)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/mypy $(TYPED)

format: $(STAMP)
	$(VENV)/bin/ruff format $(CODE)
	$(VENV)/bin/ruff check --fix $(CODE)

docs: $(STAMP)
	$(VENV)/bin/xbench docs docs

audit: $(STAMP)
	$(VENV)/bin/xbench audit --verdicts xbench/audit/verdicts.json --page docs/audit.md

bench: $(STAMP)
	$(VENV)/bin/python benchmarks/speed

reproduce: $(STAMP)
	$(VENV)/bin/xbench reproduce --page docs/reproduce.md

matrix: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/xbench matrix --workers 2 --out docs/matrix.md

site: $(STAMP)
	$(VENV)/bin/xbench docs docs
	$(VENV)/bin/mkdocs build --strict

lock: $(STAMP)
	sed -n '/^#/p' constraints.txt > constraints.new
	$(VENV)/bin/pip freeze --exclude-editable --exclude pip --exclude setuptools | sed '/^#/d' >> constraints.new
	mv constraints.new constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "xbench needs Python 3.11 or newer; set PYTHON=... to one"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
