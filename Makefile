# Two commands do all the set-up: `make demo` and `make test`. The rest is for working on Conclave.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXTRAS ?= test
FUZZ_MINUTES ?= 60
LOCAL_PORT ?= 8090
COMMA := ,
CONSOLE := docker compose run --rm console
CONSOLE_ML := docker compose run --rm console-ml
DEMO_BARS := --synthetic sequence --symbols 4 --count 3000 --source-seed 2
FIRST := --actor demo --reason 'first models'
# One process more than cores: some of the tests wait for others, for servers and for clocks.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: screenshots telemetry help demo test test-long test-stack test-cluster fuzz lint types format bench schemas docs up down demo-stack wheels clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp for each set of extras: the demo needs less than the tests, and says so by being faster.
$(VENV)/.%: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing conclave-signals[$*] into $(VENV)"
	@$(PIP) uninstall -qq --yes conclave # the name of this distribution before
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

demo: $(VENV)/.demo$(if $(LIVE),$(COMMA)exchange) ## Bars in, decisions out, on an embedded Redis; BARS=<file or folder> for real bars, LIVE=1 for a local exchange
ifdef LIVE
	@$(BIN)/python -m tests.exchange.serve --port $(LOCAL_PORT) --interval 1s & exchange=$$!; trap "kill $$exchange" EXIT; \
	    $(BIN)/conclave demo --exchange http://127.0.0.1:$(LOCAL_PORT) $(DEMO)
else
	@$(BIN)/conclave demo $(if $(BARS),--bars '$(BARS)') $(DEMO)
endif

test: $(VENV)/.test ## The tests that need neither Docker nor systemd nor ten seconds each
	@command -v chromium >/dev/null || echo 'no Chromium here: tests/services/observatory/test_browser.py is skipped (apt-get install chromium)'
	@$(BIN)/python -m pytest -m 'not long and not stack and not cluster' -n $(WORKERS) $(SIDE_BY_SIDE) $(TESTS)

test-long: $(VENV)/.test ## The tests that take ten seconds or more: whole installations over all their life, and fits
	@$(BIN)/python -m pytest -m long -n auto $(SIDE_BY_SIDE) $(TESTS)

test-stack: $(VENV)/.test ## The tests that need Docker, systemd or minutes
	@$(BIN)/python -m pytest -m stack -rs $(TESTS)

test-cluster: $(VENV)/.test ## The tests with servers under Sentinel and in a cluster, with Redis and with Valkey
	@$(BIN)/python -m pytest -m cluster -rs $(TESTS)

fuzz: $(VENV)/.test ## Property tests with fresh seeds for FUZZ_MINUTES (60), until one is falsified
	@$(BIN)/python tests/fuzz.py --minutes $(FUZZ_MINUTES) $(TESTS)

screenshots: $(VENV)/.test ## Every screen of the observatory, on desk and phone, light and dark, as PNG in bench/out/screenshots
	@SCREENSHOTS=bench/out/screenshots $(BIN)/python -m pytest -rs tests/services/observatory/test_browser.py tests/services/observatory/test_acting_in_browser.py

lint: $(VENV)/.test ## Style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.test ## Strict types
	@$(BIN)/mypy

format: $(VENV)/.test ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.bench ## List the benchmarks; BENCH=<name> runs one, QUICK=1 shortly
	@$(BIN)/python -m bench $(BENCH) $(if $(QUICK),--quick)

schemas: $(VENV)/.test ## Write the generated documents of the streams
	@$(BIN)/python -m schemas.documentation.documents

docs: schemas ## Write all generated reference pages
	@$(BIN)/python -m shared.features.reference > docs/reference/features.md
	@$(BIN)/python -m shared.telemetry.reference docs/reference/telemetry.md
	@$(BIN)/python -m shared.gates.reference docs/reference/gate-policies.md
	@$(BIN)/python -m services.console.reference

up: ## Build and start the compose stack, and wait until it is healthy
	@docker compose up --build --wait

telemetry: ## The same with collector, Prometheus, Grafana (127.0.0.1:3000) and Jaeger
	@OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 docker compose --profile telemetry up --build --wait

down: ## End the compose stack; what it decided stays in its volumes
	@docker compose --profile '*' down

demo-stack: up ## The compose stack with four models: two at first, the networks join while decisions flow
	@$(CONSOLE) train files --model xgboost --family xgboost $(DEMO_BARS) --promote --weight 1 $(FIRST)
	@$(CONSOLE) train files --model lightgbm --family lightgbm $(DEMO_BARS) --promote --weight 0.5 $(FIRST)
	@docker compose --profile feed up --detach --wait
	@$(CONSOLE_ML) train files --model nhits --family nhits --param epochs=4 $(DEMO_BARS) --promote --weight 0.3 $(FIRST)
	@$(CONSOLE_ML) train files --model patchtst --family patchtst --param epochs=2 $(DEMO_BARS) --promote --weight 0.2 $(FIRST)
	@$(CONSOLE) decisions --follow

wheels: ## Fill wheels/ with what an image is made from, for a build without a registry
	@$(PYTHON) -m pip wheel --quiet --wheel-dir wheels --constraint constraints.txt --no-deps \
	    $(TORCH_INDEX:%=--extra-index-url %) torch
	@$(PYTHON) -m pip wheel --quiet --wheel-dir wheels --constraint constraints.txt --find-links wheels \
	    setuptools wheel async-timeout '.[train,ml,parquet,telemetry,notify,exchange,observatory,phone]'
	@rm wheels/conclave_signals-*.whl

clean: ## Remove what was installed and generated here
	rm -rf $(VENV) *.egg-info bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis
