# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv if it is not there.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes: compiled once, and not by each.
unexport PYTHONDONTWRITEBYTECODE

# One process per core, each with one thread; tests of a module or class share their fixtures. Where one of the processes
# crashes, its test is named and all ends: pytest-xdist 3.8 may wait for ever for the one that takes its place.
PARALLEL := -n auto --dist loadscope --max-worker-restart 0

# The extras that setup installs. Continuous integration gives docs as well, so that pip resolves once.
INSTALLED ?= dev

# What is compiled as it is imported, if it ever is: a third of all lines, which few or no tests reach.
NOT_COMPILED := /(tests?|testing)/|/transformers/models/|/ray/(rllib|serve|train|tune|llm)/

EXTRAS := runtime openvino train export track hub ray video ros rerun serve docs dev

.PHONY: browser extras help setup demo test test-serve test-slow test-changed test-snippets test-release soak soak-short \
	lint speed benchmarks reproduce-two-rows reproduce-scenes docs clean

help:
	@echo "make demo                set up, then generate scenes, train four models, write demo/report.html"
	@echo "make test                set up, then run the tests"
	@echo "make test-serve          the tests of the page in a browser, with Gradio in .venv-serve"
	@echo "make test-slow           the tests that take longer as well"
	@echo "make test-changed        of those, the ones that go with what was changed lately"
	@echo "make test-snippets       the commands on the pages that are cheap"
	@echo "make test-release        before a release: all tests, and an hour of soak"
	@echo "make soak                damaged files, kills, full disks, two writers: an hour; soak-short: minutes"
	@echo "make browser             Debian's Chromium for the tests of pages, where it can be installed"
	@echo "make lint                ruff and mypy"
	@echo "make extras              whether each extra can be installed, and all together"
	@echo "make speed               time and memory, as ratios to plain references"
	@echo "make reproduce-two-rows  two rows of a paper's table on generated scenes; a minute"
	@echo "make reproduce-scenes    every table of both papers on generated scenes; hours on a CPU"
	@echo "make docs                the documentation as a site, build/site/index.html"
	@echo "make clean               remove .venv, demo/ and caches"

setup: .venv/.installed

# torch and torchvision are resolved together by pip in one go: see pyproject.toml. pip would compile on one core; what
# does not compile, which packages have for other Pythons, it passes over as well.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Crossband needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -e '.[$(INSTALLED)]'
	@echo "compiling what was installed, on every core"
	@$(BIN)/python -m compileall -qq -j 0 -x '$(NOT_COMPILED)' .venv/lib >/dev/null || true
	@touch $@
	@case ",$(INSTALLED)," in *,docs,*) touch .venv/.with-docs ;; esac

demo: setup
	$(BIN)/crossband demo --out demo

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

# Tests of pages in a browser are skipped where there is none.
browser:
	@command -v chromium >/dev/null || { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    timeout 300 apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	    || echo "no Chromium can be installed here: the tests of pages in a browser are skipped"

# Gradio holds Pillow back, so that it lies beside .venv, whose packages it sees, and not in it.
test-serve: setup
	@test -x .venv-serve/bin/python || $(PYTHON) -m venv .venv-serve
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$(.venv-serve/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth"
	.venv-serve/bin/python -m pip install --quiet 'gradio>=6' playwright
	PYTHONPATH=src .venv-serve/bin/python -m pytest -n 0 tests/test_serve.py tests/test_serve_browser.py

test-slow: setup
	$(BIN)/python -m pytest $(PARALLEL) -m 'slow or not slow'

# Of what changed in the last four hours, and at least in the last commit: .ci/changed_tests.py says which those are.
# What all systems use (systems/base.py, training/, losses/, blocks/ ...) is tested with CSK-Net and AMDANet, which
# differ in everything that matters there, and not with all nine: CI has to stay short.
# pytest's 5 says that what changed has no slow test.
test-changed: setup
	@chosen=$$($(BIN)/python .ci/changed_tests.py) || exit 1; \
	if [ -n "$$chosen" ]; then $(BIN)/python -m pytest $(PARALLEL) -m slow -k "$$chosen" || [ $$? -eq 5 ]; fi

# The `crossband` lines of the pages; their Python snippets are among the tests of `make test`.
test-snippets: setup
	$(BIN)/python -m pytest $(PARALLEL) -m slow tests/test_snippets.py

test-release: test-slow soak

soak: setup
	$(BIN)/python tests/soak.py

# Each commit has its own damage, and its own sixths of the commands: by its time, which a shallow clone knows.
soak-short: setup
	$(BIN)/python tests/soak.py --short --seed $$(git log -1 --format=%ct 2>/dev/null || echo 0)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Asks the package index only, and installs nothing. Versions on which all extras agree serve each of them alone;
# where there are none, each is tried, to say which one is at fault. In a folder of its own, so that it may run beside
# setup: pip writes beside the sources. A pip from before 25.1 would download what it only has to know about.
extras:
	@beside=$$(mktemp -d); trap 'rm -rf "$$beside"' EXIT; \
	$(PYTHON) -m venv "$$beside/venv" && mkdir "$$beside/src" && cp -r src/crossband "$$beside/src" && \
	cp pyproject.toml README.md LICENSE "$$beside" && cd "$$beside" || exit 1; \
	venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1' || echo "goes on with the pip of $(PYTHON)"; \
	resolved() { echo "crossband[$$1]"; venv/bin/python -m pip install --quiet --dry-run --ignore-installed ".[$$1]"; }; \
	resolved "$$(echo $(EXTRAS) | tr ' ' ,)" || { for extra in $(EXTRAS); do resolved $$extra; done; exit 1; }

speed: setup
	$(BIN)/python speed/run.py

benchmarks: speed

# Both go on where they were when they are started again.
reproduce-two-rows: setup
	$(BIN)/crossband reproduce csknet/table-3 --on scenes,train=48,val=0,test=12,size=64x96 --budget quick \
		--seeds 1 --epochs 2 --rows '^IR' --rows '^CSK-Net infrared' --out reproduced/two-rows

reproduce-scenes: setup
	$(BIN)/crossband reproduce all --on scenes --budget quick --out reproduced/scenes

# Warnings are errors: a link that leads nowhere, or a docstring that cannot be read, ends it.
docs: .venv/.with-docs
	$(BIN)/python docs/build_site.py

.venv/.with-docs: .venv/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	@touch $@

clean:
	rm -rf .venv .venv-serve build demo reproduced .pytest_cache .mypy_cache .ruff_cache .hypothesis
