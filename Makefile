# Two commands matter: `make demo` and `make test`. Each installs what it needs and can be run twice.

CARGO_TARGET_DIR ?= $(HOME)/.cache/watershed/target
export CARGO_TARGET_DIR

.PHONY: help demo build test lint generate bench clean-data

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: ## Build, generate a catalogue, train, serve it on 127.0.0.1:8080
	@scripts/install build
	cargo run --release --locked -p watershed -- demo --data-dir data/demo

build: ## Build the release binary; FEATURES=full for PostgreSQL, Redis, Kafka, ClickHouse and S3
	@scripts/install build $(FEATURES)
	cargo build --release --locked -p watershed --features '$(FEATURES)'

test: ## Build and run every test, beside the engines that they need; try the server as its clients do
	@scripts/install test
	scripts/with-engines cargo nextest run --locked --workspace --all-features
	cargo test --locked --workspace --all-features --doc
	scripts/with-server scripts/schemathesis
	scripts/with-server scripts/test-clients
	scripts/with-server scripts/test-mlflow

lint: ## Format, clippy, licences and sources, generated files, alerts, manifests
	@scripts/install lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	cargo deny --all-features --locked check --hide-inclusion-graph licenses bans sources
	scripts/generate --check
	scripts/check-alerts
	scripts/check-manifests

generate: ## Write the generated files (OpenAPI document, models of the clients, config schema)
	@scripts/install generate
	scripts/generate

bench: ## Run every benchmark that has a bar
	@scripts/install bench
	bench/bar --all

clean-data: ## Remove the data of the demo
	rm -rf data
