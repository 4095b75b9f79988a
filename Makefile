# The two commands: `make demo` and `make test`. The others are theirs, or for who works on strake.
SHELL := /bin/bash
CARGO ?= cargo
STRAKE := target/release/strake
GUESTBOOK := examples/guestbook/bin/guestbook
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

.PHONY: demo test bench fuzz differential base-images check-machine fmt lint clean-demo

## Builds strake and the demo, starts a cluster, and shows the demo running.
demo: check-machine $(STRAKE) $(GUESTBOOK)
	@$(STRAKE) up examples/guestbook
	@echo
	@echo "Open  http://localhost:30080/  (try: curl -s localhost:30080)"
	@echo
	@echo "Look around:  $(STRAKE) get all -A    $(STRAKE) logs -n guestbook deployment/guestbook    $(STRAKE) plan examples/guestbook"
	@echo "With kubectl: kubectl --kubeconfig \"\$$($(STRAKE) kubeconfig --path)\" get pods -A"
	@echo "Stop it:      $(STRAKE) down examples/guestbook    then    $(STRAKE) stop"

## All tests. Those that need root, a kernel feature or a peer say so when they cannot run.
test: $(GUESTBOOK)
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --no-fail-fast

## Figures beside the peers that are installed, as ratios (tests/bench/README.md).
bench: $(STRAKE) $(GUESTBOOK)
	$(CARGO) run --quiet --release -p strake-tests --bin bench

## Fuzzing of every parser, FUZZ_SECONDS each (tests/fuzz/README.md).
fuzz:
	tests/fuzz/run $(or $(FUZZ_SECONDS),600) $(FUZZ_TARGETS)

## Random Dockerfiles built by strake in several states and by the peers that are installed (tests/diff/README.md).
differential:
	$(CARGO) build --quiet -p strake-cli
	$(CARGO) run --quiet -p strake-tests --bin differential -- $(DIFFERENTIAL)

## Base images for examples that need one where no registry can be reached.
base-images: $(STRAKE)
	@missing=""; for tool in mmdebstrap busybox; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then echo "make base-images needs:$$missing. On Debian or Ubuntu: apt-get install mmdebstrap busybox-static"; exit 1; fi
	@mkdir -p .base-images
	@test -f .base-images/debian.tar || { echo "Making debian:bookworm-slim (about 20 s) ..."; \
	  mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm .base-images/new.tar && mv .base-images/new.tar .base-images/debian.tar; }
	@rm -rf .base-images/busybox && mkdir -p .base-images/busybox/bin .base-images/busybox/etc .base-images/busybox/tmp && chmod 1777 .base-images/busybox/tmp
	@cp "$$(command -v busybox)" .base-images/busybox/bin/busybox
	@for applet in $$(busybox --list); do [ "$$applet" = busybox ] || ln -sf busybox .base-images/busybox/bin/$$applet; done
	@echo 'root:x:0:0:root:/root:/bin/sh' > .base-images/busybox/etc/passwd; echo 'root:x:0:' > .base-images/busybox/etc/group
	@$(STRAKE) image import .base-images/debian.tar debian:bookworm-slim
	@$(STRAKE) image import .base-images/busybox busybox:latest

check-machine:
	@[ "$$(uname -s)" = Linux ] || { echo "strake runs on Linux: namespaces, cgroups and overlayfs are its ground."; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "make demo starts containers and needs root: run 'sudo -E env PATH=\"\$$PATH\" make demo' (so that root finds your cargo)."; exit 1; }
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust with rustup (https://rustup.rs)."; exit 1; }
	@echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || { echo "a C compiler that links is missing: on Debian or Ubuntu, apt-get install gcc libc6-dev."; exit 1; }
	@grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || { echo "the kernel has no overlayfs: load it with 'modprobe overlay'."; exit 1; }
	@[ -x $(STRAKE) ] || echo "The first build compiles everything and takes several minutes."

$(STRAKE): FORCE
	@$(CARGO) build --quiet --release -p strake-cli

$(GUESTBOOK): examples/guestbook/web/src/main.rs examples/guestbook/web/Cargo.toml
	@cd examples/guestbook/web && RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --quiet --release --target $(HOST) --target-dir ../target
	@mkdir -p examples/guestbook/bin
	@cp examples/guestbook/target/$(HOST)/release/guestbook $@

fmt:
	$(CARGO) fmt --all

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

FORCE:
