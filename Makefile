# Each target makes what it needs: a virtual environment with the pinned packages and this one.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo demo-split demo-transfer test test-faults fuzz conformance bench lint specs clean

demo: $(VENV)/.demo
	$(BIN)/aimle-server demo

demo-split: $(VENV)/.demo $(VENV)/.split
	$(BIN)/aimle-server demo --split

demo-transfer: $(VENV)/.demo
	$(BIN)/aimle-server demo --transfer

test: $(VENV)/.test
	$(BIN)/python -m pytest

test-faults: $(VENV)/.test
	$(BIN)/python -m pytest -m faults tests/faults

# Other requests each time, 80 times as many as in `make test`: about half an hour. -k narrows it, e.g. FUZZ='-k damaged'.
fuzz: $(VENV)/.test
	AIMLE_FUZZ=long $(BIN)/python -m pytest tests/contract/test_fuzz.py --timeout 0 $(FUZZ)

# Over HTTP alone, against a server that is started for it; CONFORMANCE='--report FILE.json' are options of pytest.
conformance: $(VENV)/.test
	$(BIN)/python tests/conformance/run.py $(CONFORMANCE)

# Everything, on a machine that has nothing else to do. BENCH narrows it: BENCH='--quick', BENCH='intake requests'.
bench: $(VENV)/.bench .bench/flwr/.made .bench/nvflare/.made
	$(BIN)/python -m benchmarks $(BENCH)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

specs: $(VENV)/.test
	$(BIN)/aimle-server specs --write specs

# One stamp per extra: installing again only when the pins or the metadata change.
$(VENV)/.%: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

# A peer that we are compared with, in an environment of its own.
.bench/%/.made: benchmarks/peers/%.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf $(VENV) .bench build *.egg-info .pytest_cache .mypy_cache .ruff_cache
