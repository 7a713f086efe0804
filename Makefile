# What people and the build server run. `make help` lists it.

CARGO ?= cargo
# The versions of Cargo.lock and no others.
CARGO_FLAGS ?= --locked

.DEFAULT_GOAL := help
.PHONY: help run test check bench restart cluster

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and start Tidegate with an S3 bucket and an API to play with
	@scripts/install-deps.sh run
	@$(CARGO) build $(CARGO_FLAGS) --release --bin tidegate --example quickstart
	@exec $${CARGO_TARGET_DIR:-target}/release/examples/quickstart

test: ## Run every test, against real servers
	@scripts/install-deps.sh test
	@$(CARGO) test $(CARGO_FLAGS) --lib --bins --tests --examples
	@# What the standards ask holds in every tier, and in all of them together.
	@for tiers in disk memory+disk redis memory+disk+redis; do \
		echo "in $$tiers:"; \
		TIDEGATE_TEST_TIERS=$$tiers $(CARGO) test $(CARGO_FLAGS) --test rfc9111 || exit 1; \
	done

check: ## Look for what a reviewer would point out
	@scripts/install-deps.sh build
	@$(CARGO) fmt --check
	@$(CARGO) clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	@$(CARGO) test $(CARGO_FLAGS) --doc --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --log-level warn check; \
	else \
		echo "note: dependencies were not checked: cargo-deny is missing (cargo install cargo-deny)"; \
	fi

bench: ## Measure the parts, then compare the whole with other caches
	@scripts/install-deps.sh build
	@$(CARGO) bench $(CARGO_FLAGS)
	@if [ -x bench/compare.sh ]; then bench/compare.sh; fi
	@if [ -x bench/disk.sh ]; then bench/disk.sh; fi

restart: ## Measure a start with a million responses on disk (5 GB)
	@scripts/install-deps.sh build
	@$(CARGO) build $(CARGO_FLAGS) --release --bin tidegate --example restart
	@$${CARGO_TARGET_DIR:-target}/release/examples/restart

cluster: ## Measure three nodes that share a Redis
	@scripts/install-deps.sh test
	@$(CARGO) build $(CARGO_FLAGS) --release --bin tidegate --example cluster
	@$${CARGO_TARGET_DIR:-target}/release/examples/cluster
