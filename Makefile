# Every command of this project. A line "name: ... ## text" below is a line of the help.
#
#   PYTHON=python3.12 make test      another Python, 3.11 or newer, for the environment .venv
#   PYTEST_ARGS="-x -k focal"        what `make test` hands to pytest

PYTHON ?= python3
PYTEST_ARGS ?= -n auto

# What Python 3.13 runs too, on the base install and JAX: no pyarrow, rich, scikit-learn there, and
# nowhere a PyTorch without CUDA. Not the slow ones: what they show is no matter of the Python.
CORE_TESTS := $(wildcard $(patsubst %,tests/test_%.py,build doctor imports contract contract_information \
	same_bits advice catalogue audit audit_cli jax xla_ffi))

VENV := .venv
BIN := $(VENV)/bin
VENV313 := .venv313
# The first Python 3.13 that starts: on the path, or one of pyenv's.
ifndef PYTHON313
PYTHON313 := $(shell for python in python3.13 "$$(pyenv root 2>/dev/null)"/versions/3.13*/bin/python; \
	do "$$python" -c "import venv" 2>/dev/null && { echo "$$python"; break; }; done)
endif

# Python files are used where they lie; only these need a new build.
BUILD := $(wildcard native/*) CMakeLists.txt pyproject.toml
SOURCES := $(wildcard src/crossent/*.py src/crossent/*/*.py src/crossent/*/*/*.py src/crossent/*/*/*/*.py)

PIP := -m pip --disable-pip-version-check --quiet --quiet

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-core-313 check wheel bench bench-check docs mutants arm64 venv clean

help: ## print this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1|\2/p' $(firstword $(MAKEFILE_LIST)) \
		| awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed ## build into .venv and audit real predictions of scikit-learn's digits
	$(BIN)/crossent audit examples/digits/predictions.parquet --exit-zero

test: $(VENV)/.installed-dev test-core-313 ## run the whole suite; before it, the core's on Python 3.13
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev ## lint, formatting, types, import direction; no tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(wildcard native/*.h native/*.cpp tests/native/*)

wheel: dist/.checked ## build the wheel and check that it runs on every Python from 3.11 on

bench: $(VENV)/.installed-bench ## time us and the others, side by side; twenty minutes
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/bench.py --table

bench-check: $(VENV)/.installed-dev ## count the kernels' instructions; a rise over 5 % fails (needs valgrind)
	$(BIN)/python benchmarks/instructions.py

docs: $(VENV)/.installed-dev ## write again what is generated
	$(BIN)/python -m nanobind.stubgen -q -m crossent._native -o src/crossent/_native.pyi
	$(BIN)/python docs/make.py

mutants: $(VENV)/.installed-dev ## put faults into the code and count those that the tests find
	$(BIN)/python tests/mutants.py

arm64: $(VENV)/.created ## cross-compile the core for arm64 and test it on an emulator; an hour (Debian only)
	PYTHON=$(BIN)/python tests/arm64.sh .venv-arm64

venv: $(VENV)/.installed-dev ## only make .venv, with all that development needs

clean: ## remove all that was built
	rm -rf .venv .venv-demo .venv-arm64 $(VENV313) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crossent needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(BUILD)
	@echo "building and installing into $(VENV) ..."
	$(BIN)/python $(PIP) install --editable ".[audit]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created $(BUILD)
	@echo "building and installing into $(VENV), with the tools of development ..."
	$(BIN)/python $(PIP) install --editable ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.created $(BUILD)
	@echo "building and installing into $(VENV), with the libraries to compare with ..."
	$(BIN)/python $(PIP) install --editable ".[bench]"
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

dist/.checked: $(VENV)/.installed-dev $(BUILD) $(SOURCES) LICENSE README.md
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	$(BIN)/auditwheel show dist/*.whl
	$(BIN)/abi3audit --strict dist/*.whl
	@touch $@

# The very wheel that was built on another Python: that is what abi3 promises.
ifeq ($(PYTHON313),)
test-core-313:
	@echo "skipped on Python 3.13: none found; name one with PYTHON313=/path/to/python3.13"
else
test-core-313: $(VENV313)/.installed
	$(VENV313)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS) $(CORE_TESTS)

$(VENV313)/.created:
	$(PYTHON313) -m venv --clear $(VENV313)
	@touch $@

$(VENV313)/.installed: $(VENV313)/.created dist/.checked
	$(VENV313)/bin/python $(PIP) install "$$(ls dist/*.whl)[test]" "jax>=0.5.3" flatbuffers
	$(VENV313)/bin/python $(PIP) install --force-reinstall --no-deps dist/*.whl  # same number, new code
	@touch $@
endif
