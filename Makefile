# The two commands of this repository are `make demo` and `make test`. Both
# install what they need, say so, and clean up after themselves.

SHELL   := /bin/bash
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PREFIX  ?= /usr/local
CNI_BIN ?= /opt/cni/bin
BENCH   ?=
DRIVERS := bridge macvlan host
PLUGINS := $(addprefix bowline-,$(DRIVERS)) bowline-ipam bowline-dhcp
FUZZ    ?= 30s
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-containerd2 test-vm bench bench-docs faults lint fuzz install uninstall clean

help: ## print this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

demo: build ## wire containers for real, show who reaches whom, take all away, prove it
	@hack/setup.sh demo
	@$(SUDO) bin/bowline demo

test: ## all checks and tests, on real kernels and engines (root or sudo)
	@hack/test.sh

test-containerd2: build ## the tests of containerd, with containerd 2 built from its modules
	@hack/setup.sh test
	@BOWLINE_BIN=$(CURDIR)/bin BOWLINE_E2E_CONTAINERD=$(CURDIR)/.cache/containerd2 \
		go test $(if $(SUDO),-exec "$(SUDO) -E") -count=1 -run TestContainerd2 ./test/e2e

test-docker29: ## optional: the tests with Docker, with the generation of 29; builds it once
	@hack/docker29.sh

test-vm: ## optional: the tests that meet the kernel, under Debian's own in qemu
	@hack/vm.sh

build: ## static binaries into bin/
	@hack/setup.sh build
	@mkdir -p bin
	@$(BUILD) -o bin/ ./runtime/bowline ./ipam/bowline-ipam ./ipam/bowline-dhcp $(addprefix ./plugins/,$(DRIVERS))
	@for d in $(DRIVERS); do mv bin/$$d bin/bowline-$$d; done
	@$(BUILD) -o bin/bowline-volume ./plugins/volume-migrate

bench: build ## side by side with the reference plugins; BENCH=-quick for a first look
	@hack/setup.sh test
	@go build -o .cache/bin/bench ./bench
	@$(SUDO) .cache/bin/bench -ours bin -reference .cache/ref $(BENCH)

bench-docs: ## as bench, and the figures go into docs/benchmarks.md
	@set -o pipefail; $(MAKE) -s bench | tee .cache/bench.md
	@sed -i -e '/bench: begin/r .cache/bench.md' -e '/bench: begin/,/bench: end/{/bench: /!d}' docs/benchmarks.md

faults: build ## break everything around containers, in full; the counts go into docs/reliability.md
	@hack/setup.sh test
	@BOWLINE_BIN=$(CURDIR)/bin hack/faults.sh

lint: ## gofmt, vet, golangci-lint, the layer check
	@hack/setup.sh test
	@hack/test.sh lint

fuzz: ## every fuzz target for FUZZ=30s each
	@hack/fuzz.sh $(FUZZ)

setup: ## install what the tests need: packages, Go tools into .cache/bin
	@hack/setup.sh test

install: build ## bowline and bowline-volume into PREFIX/bin, plugins into CNI_BIN (loopback too, if there is none), systemd units into PREFIX/lib/systemd/system
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(CNI_BIN) $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 755 bin/bowline bin/bowline-volume $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(addprefix bin/,$(PLUGINS)) $(DESTDIR)$(CNI_BIN)/
	ln -sf $(addprefix $(CNI_BIN)/,$(PLUGINS)) $(DESTDIR)$(PREFIX)/bin/
	[ -e $(DESTDIR)$(CNI_BIN)/loopback ] || ln -s bowline-host $(DESTDIR)$(CNI_BIN)/loopback
	for u in packaging/systemd/*; do \
		sed 's,/usr/local/bin,$(PREFIX)/bin,g' $$u >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${u##*/}; done

uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,bowline bowline-volume $(PLUGINS)) $(addprefix $(DESTDIR)$(CNI_BIN)/,$(PLUGINS))
	[ "$$(readlink $(DESTDIR)$(CNI_BIN)/loopback)" != bowline-host ] || rm -f $(DESTDIR)$(CNI_BIN)/loopback
	for u in packaging/systemd/*; do rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/$${u##*/}; done

clean: ## remove bin/ and .cache/
	rm -rf bin .cache
