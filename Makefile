# Two commands do everything on a fresh Debian machine with Python and root: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
FUZZ_EXAMPLES ?= 20000
FUZZ_SECONDS  ?= 30

# Debian packages: what Fairway runs on (nftables), what tests and benchmarks measure against.
DEBIAN := python3-venv nftables iptables iproute2 iputils-ping iperf3 bird2 tcpdump tshark containernetworking-plugins \
          caddy chromium ngtcp2-client ngtcp2-server containerd runc podman conmon busybox-static

.PHONY: help setup demo test check fuzz interop bench cni-kit clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## install what is missing: Debian packages, and .venv with fairway in it
	@missing=""; for p in $(DEBIAN); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

$(STAMP): pyproject.toml
	@dpkg-query -W -f '$${Status}' python3-venv 2>/dev/null | grep -q 'ok installed' || \
	    (apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing fairway into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: setup      ## the project's main job, shown: two hosts whose agents find each other, downloads, a pod that moves
	@$(BIN)/python -m demo

test: setup check  ## check, then every test
	@$(BIN)/python -m compileall -q src  # many tests start commands, and not everywhere are compiled modules kept
	$(BIN)/python -m pytest -n auto --dist loadfile

check: setup     ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: setup      ## every decoder and whole connections, deep: FUZZ_EXAMPLES of each, FUZZ_SECONDS each at most
	FAIRWAY_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) FAIRWAY_FUZZ_SECONDS=$(FUZZ_SECONDS) \
	    $(BIN)/python -m pytest tests/fuzz -q --timeout=$$((4 * $(FUZZ_SECONDS) + 60))

interop: setup   ## the public QUIC interop runner's cases, Fairway and its peers, into docs/interop.md: ten minutes
	$(BIN)/python -m interop --write

bench: setup     ## every figure that the README quotes
	$(BIN)/python -m bench

cni-kit: setup   ## score CNI plugins by behaviour: PLUGIN=path for one; ours and Debian's side by side without
	@$(BIN)/fairway cni install --plugin-only --bin-dir $(VENV)/cni >/dev/null
	@$(if $(PLUGIN),$(BIN)/python -m cnikit $(PLUGIN),$(BIN)/python -m cnikit --markdown docs/cni-kit.md)

clean:           ## remove what setup and the tools made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
