# SPDX-License-Identifier: Apache-2.0
# Every target sets up all it needs in .venv. Needs python3 >= 3.10 with venv, cc, c++, make, and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BOOTSTRAP = $(PYTHON) scripts/bootstrap.py --venv $(VENV)
JOBS ?= $(shell nproc)
ARGS ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo demo-sharing test bench lint format sanitize fuzz soak gpu-check numba-suite docs wheel manifests manifests-scan k8s-real clean distclean

help:
	@echo "make demo       builds, then shows CUDA programs running against the CPU device"
	@echo "make demo-sharing  three programs share one device; a table and the controller's dashboard show that limits hold"
	@echo "make test       builds, then runs all tests (ARGS=... goes to pytest)"
	@echo "make bench      builds, installs the peers, measures Orion and them in one run (ARGS='-k ucx' selects)"
	@echo "make lint       ruff, mypy --strict, clang-format (make format repairs)"
	@echo "make sanitize   C tests under AddressSanitizer and UndefinedBehaviorSanitizer, channels and sessions under ThreadSanitizer"
	@echo "make fuzz       decoders against hostile input under the sanitizers, by libFuzzer where clang has it (SECONDS=60 each)"
	@echo "make soak       KILLS=10000 kills at random instants, ROUNDS=100 of killing who leases and serves in every order,"
	@echo "                WORDS=100000000 hostile words, larger models,"
	@echo "                EXAMPLES=50 times the made-up examples of make test, new ones each time"
	@echo "make gpu-check  on a machine with a GPU: Orion against the driver itself, table in docs/gpu; else the cascade"
	@echo "make numba-suite  the tests that numba-cuda brings, on the CPU device; what does not pass is listed with its reason"
	@echo "make docs       docs/reference/api-support.md"
	@echo "make wheel      dist/orion_vgpu-*.whl"
	@echo "make manifests  k8s/deploy/deploy-*.yaml from their kustomizations; make manifests-scan: checkov over all of it"
	@echo "make k8s-real   as root: a real Kubernetes (built once from Debian's source) runs k8s/deploy; docs/k8s-real.md"
	@echo "make clean      removes what was built; make distclean removes .venv as well"

demo:
	@$(BOOTSTRAP) demo
	@$(BIN)/python scripts/demo.py $(ARGS)

demo-sharing:
	@$(BOOTSTRAP) demo-sharing
	@$(BIN)/python scripts/demo_sharing.py $(ARGS)

test:
	@$(BOOTSTRAP) test
	$(BIN)/pytest $(ARGS)

bench:
	@$(BOOTSTRAP) bench
	@$(BIN)/python benchmarks/peers/install.py
	$(BIN)/pytest benchmarks --benchmark-enable --benchmark-only $(ARGS)

lint:
	@$(BOOTSTRAP) --no-build lint
	@$(BIN)/python scripts/lint.py

format:
	@$(BOOTSTRAP) --no-build lint
	@$(BIN)/python scripts/lint.py --fix

SANITIZE = build/sanitize
SECONDS ?= 60
KILLS ?= 10000
ROUNDS ?= 100
WORDS ?= 100000000
EXAMPLES ?= 50

$(SANITIZE)/build.ninja:
	@$(BOOTSTRAP) --no-build test
	$(BIN)/meson setup $(SANITIZE) -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1

sanitize: $(SANITIZE)/build.ninja
	$(BIN)/meson test -C $(SANITIZE) --print-errorlogs --no-suite fuzz $(ARGS)
	@$(BOOTSTRAP) test
	$(BIN)/meson test -C build/venv --print-errorlogs --suite tsan

fuzz:
	@$(BOOTSTRAP) --no-build test
	@$(BIN)/python scripts/fuzz.py --seconds $(SECONDS) $(ARGS)

soak:
	@$(BOOTSTRAP) test
	ORION_HOSTILE_WORDS=$(WORDS) ORION_KILLS=$(KILLS) ORION_TEST_ALARM=36000 $(BIN)/meson test -C build/venv --print-errorlogs --timeout-multiplier 0 transport_hostile_asan transport_kill channel_channel_hostile_asan channel_kill
	ORION_SOAK=1 ORION_KILLS=$(KILLS) ORION_KILL_ROUNDS=$(ROUNDS) $(BIN)/pytest tests/e2e/test_kills.py tests/controller/test_kills.py tests/model --timeout 0 $(ARGS)
	ORION_EXAMPLES=$(EXAMPLES) $(BIN)/pytest $$(grep -rl hypothesis_settings --include='test_*.py' tests) --timeout 0 $(ARGS)

gpu-check:
	@$(PYTHON) -m scripts.gpu_check --venv $(VENV) $(ARGS)

numba-suite:
	@$(BOOTSTRAP) test
	@$(BIN)/python scripts/numba_suite.py $(ARGS)

docs:
	@$(BOOTSTRAP) --no-build
	@mkdir -p docs/reference build/docs
	PYTHONPATH=csrc $(BIN)/python -m codegen --spec csrc/spec --output build/docs
	@cp build/docs/api-support.md docs/reference/api-support.md
	@echo docs/reference/api-support.md

wheel:
	@$(BOOTSTRAP) --no-build
	$(BIN)/pip wheel --no-build-isolation --no-deps -Cbuild-dir=build/venv -w dist .

manifests:
	@$(BOOTSTRAP) --no-build test
	@$(BIN)/python scripts/manifests.py $(ARGS)

manifests-scan:
	@$(BOOTSTRAP) --no-build test
	@$(BIN)/python scripts/manifests_scan.py

k8s-real:
	@$(BOOTSTRAP) test
	@$(BIN)/python -m scripts.k8s_real $(ARGS)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis docs/reference/api-support.md
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	rm -f $(VENV)/.orion/orion

distclean: clean
	rm -rf $(VENV)
