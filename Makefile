# What a newcomer and CI run. `make` alone lists it.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo image pictures push test test-engines test-cluster test-unit bench lint fmt clippy doc shell deny engines bases clients engines-down cluster cluster-down linux compile

CARGO ?= cargo
IMAGE ?= kiln
TAG ?= latest
TEST_ENGINES := registry registry-auth buildkitd buildkitd-floor docker docker-containerd swarm couchdb
SHELL_SCRIPTS := .ci/run deploy/demo deploy/dev/base deploy/dev/cluster deploy/dev/engines deploy/dev/image deploy/dev/prerequisites \
	deploy/image/build conformance-tests/bases/build conformance-tests/browser/fetch conformance-tests/clients/fetch \
	conformance-tests/clients/task/fetch \
	conformance-tests/clients/schemathesis/fetch
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(HOME)/.cache/kiln/bin/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: ## Build an image from a requirements file, pull it anew, run it
	@deploy/demo

image: linux ## Package the kiln that is built as the container image IMAGE:TAG (Linux)
	@deploy/image/build $(IMAGE):$(TAG)

push: linux ## Push it to the registry that its name begins with
	@deploy/image/build $(IMAGE):$(TAG) push

test: test-engines test-cluster ## Bring up the real engines and a cluster, and run every test (Linux)

test-engines: linux compile engines bases clients ## The tests that need no cluster
	@set -e; eval "$$(deploy/dev/engines env)"; set -x; \
	$(CARGO) build --locked --package kiln-gateway; \
	$(CARGO) test --locked --workspace --no-fail-fast
	@echo "The engines stay up for the next run; make engines-down ends them."

test-cluster: linux compile engines bases cluster ## Those that need one
	@set -e; eval "$$(deploy/dev/engines env)"; eval "$$(deploy/dev/cluster env)"; set -x; \
	$(CARGO) build --locked --package kiln-gateway; \
	$(CARGO) test --locked --package kiln-conformance-tests --features cluster --no-fail-fast --test backends_kubernetes --test kubernetes_faults --test kubernetes_warm --test kubernetes_caches --test deployed_cluster
	@echo "The cluster stays up for the next run; make cluster-down ends it."

test-unit: compile ## Run the tests that need no engine
	$(CARGO) test --locked --workspace --lib --bins

bench: linux compile ## Measure the figures of the README beside their bounds (Linux, ten minutes after compiling)
	deploy/dev/engines up registry buildkitd couchdb
	@set -e; eval "$$(deploy/dev/engines env)"; set -x; \
	conformance-tests/bases/build slow; \
	$(CARGO) build --locked --release --workspace; \
	$(CARGO) run --locked --release --package kiln-conformance-tests --bin bench

lint: fmt clippy doc shell deny ## Format, lints, documentation, scripts, dependencies

fmt:
	$(CARGO) fmt --all --check

clippy: compile
	$(CARGO) clippy --locked --workspace --all-targets --features kiln-conformance-tests/cluster -- -D warnings

# Private items too: the readers are those who work on this.
doc: compile
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' $(CARGO) doc --locked --workspace --no-deps --document-private-items

shell:
	@command -v shellcheck >/dev/null || { echo 'error: shellcheck is missing (Debian: apt-get install shellcheck)' >&2; exit 1; }
	shellcheck -x $(SHELL_SCRIPTS)

# Without advisories: they change without a change of ours, and so aren't a property of a commit.
deny: $(CARGO_DENY)
	$(CARGO_DENY) --locked check bans licenses sources

$(CARGO_DENY):
	$(CARGO) install --locked --root $(@D)/.. cargo-deny@$(CARGO_DENY_VERSION)

engines: linux
	deploy/dev/engines up $(TEST_ENGINES)

bases: engines
	eval "$$(deploy/dev/engines env)"; conformance-tests/bases/build

clients: engines
	conformance-tests/clients/fetch
	conformance-tests/clients/task/fetch
	conformance-tests/clients/schemathesis/fetch
	conformance-tests/browser/fetch

pictures: linux compile engines bases clients ## Make the pictures of the page in gateway/docs anew (pngquant makes them small)
	@set -e; eval "$$(deploy/dev/engines env)"; set -x; \
	$(CARGO) build --locked --package kiln-gateway; \
	KILN_TEST_PICTURES=$(CURDIR)/gateway/docs $(CARGO) test --locked --package kiln-conformance-tests --test page -- --ignored; \
	pngquant --force --skip-if-larger --strip --ext .png gateway/docs/*.png

engines-down: ## End the engines that make test brought up
	deploy/dev/engines down

cluster: linux ## Bring up a Kubernetes of one node; KUBECONFIG: deploy/dev/cluster env
	deploy/dev/cluster up

cluster-down: ## End it
	deploy/dev/cluster down

linux:
	@[ "$$(uname -s)" = Linux ] || { echo 'error: the tests bring up engines that run on Linux alone; elsewhere: make test-unit, make demo' >&2; exit 1; }

compile:
	@deploy/dev/prerequisites compile
