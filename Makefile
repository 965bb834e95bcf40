# Every target sets up what it needs in .venv; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt
STAMPS := $(VENV)/stamps

.PHONY: help demo test thorough faults check experiments docs bench figures format clean
help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMPS)/core: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (the first time takes some minutes)"
	@$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	@$(PIP) -e .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/%: $(STAMPS)/core
	@$(PIP) -e '.[$*]'
	@touch $@

demo: $(STAMPS)/core  ## train on real digits, sample, write runs/demo/report.html
	@$(BIN)/pushforward train digits --condition label --guidance 1.2 --solver heun,steps=20 \
		--out runs/demo --overwrite --no-report
	@$(BIN)/pushforward sample runs/demo -n 100 --condition 0 1 2 3 4 5 6 7 8 9 -o runs/demo/samples.png
	@$(BIN)/pushforward report runs/demo --samples 1000

test: $(STAMPS)/peers  ## run tests, doctests and documented examples (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

thorough: $(STAMPS)/dev  ## run more cases of what these tests try (minutes)
	@THOROUGH=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m thorough

faults: $(STAMPS)/dev  ## kill at every file operation, every damaged folder, the whole fuzz (minutes)
	@FAULTS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal tests/faults

check: $(STAMPS)/dev  ## lint, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

experiments: $(STAMPS)/core  ## run the experiments in small size and check their claims (minutes)
	@$(BIN)/python experiments/run_all.py --small

docs: $(STAMPS)/docs  ## build the documentation, follow its links, try its search
	@$(BIN)/python experiments/run_all.py --small change_of_variables stiffness
	@$(BIN)/python experiments/pages.py
	@$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@$(BIN)/python docs/check_site.py
	@echo docs/_build/html/index.html

# these ask for packages that what is timed or tested does without
$(STAMPS)/peers: $(STAMPS)/dev
	@$(PIP) --no-deps torchcfm flow_matching nflows normflows
	@touch $@

bench: $(STAMPS)/peers  ## run the benchmarks (hours) and write docs/benchmarks.md; MNIST=file, TABLES=dir add data
	@$(BIN)/python benchmarks/training_overhead.py
	@$(BIN)/python benchmarks/couplings.py
	@$(BIN)/python benchmarks/two_dimensional.py run
	@$(BIN)/python benchmarks/two_dimensional.py speed
	@$(BIN)/python benchmarks/two_dimensional.py page
	@$(BIN)/python benchmarks/conditional_coupling.py run
	@$(BIN)/python benchmarks/conditional_coupling.py page
	@$(BIN)/python benchmarks/reflow.py run
	@$(BIN)/python benchmarks/reflow.py page
	@$(BIN)/python benchmarks/few_steps.py run
	@$(BIN)/python benchmarks/few_steps.py page
	@$(BIN)/python benchmarks/few_step.py run
	@$(BIN)/python benchmarks/few_step.py run --pairs ot
	@$(BIN)/python benchmarks/few_step.py page
	@$(PIP) --no-deps rectified-flow-pytorch einops
	@$(BIN)/python benchmarks/few_step_digits.py run
	@$(BIN)/python benchmarks/few_step_digits.py page
	@$(BIN)/python benchmarks/few_step_cost.py cost
	@$(BIN)/python benchmarks/few_step_cost.py peer
	@$(BIN)/python benchmarks/few_step_cost.py page
	@$(BIN)/python benchmarks/discrete.py digits
	@$(BIN)/python benchmarks/discrete.py text --seeds 42
	@$(BIN)/python benchmarks/discrete.py speed
	@$(BIN)/python benchmarks/discrete.py page
	@$(BIN)/python benchmarks/semidiscrete.py $(if $(MNIST),--mnist $(MNIST))
	@$(BIN)/python benchmarks/bridges.py
	@$(BIN)/python benchmarks/score_agreement.py run
	@$(BIN)/python benchmarks/score_agreement.py page
	@$(BIN)/python benchmarks/two_moons.py run
	@$(BIN)/python benchmarks/two_moons.py vae
	@$(BIN)/python benchmarks/two_moons.py page
	@$(BIN)/python benchmarks/ffjord.py run
	@$(BIN)/python benchmarks/ffjord.py page
	@$(BIN)/python benchmarks/flow_speed.py coupling --compiled
	@$(BIN)/python benchmarks/flow_speed.py sampling
	@$(BIN)/python benchmarks/flow_speed.py images
	@$(BIN)/python benchmarks/flow_speed.py page
	@$(BIN)/python benchmarks/solver_speed.py tolerance
	@$(BIN)/python benchmarks/solver_speed.py error
	@$(BIN)/python benchmarks/solver_speed.py gradients
	@$(BIN)/python benchmarks/solver_speed.py memory
	@$(BIN)/python benchmarks/likelihood_speed.py run
	@$(BIN)/python benchmarks/likelihood_speed.py page
	@$(BIN)/python benchmarks/anomaly.py moons
	@$(BIN)/python benchmarks/anomaly.py tables
	@$(BIN)/python benchmarks/anomaly.py page
	@$(BIN)/python benchmarks/small_tables.py run $(if $(TABLES),--data $(TABLES))
	@$(BIN)/python benchmarks/small_tables.py page
	@$(BIN)/python benchmarks/path_ablation.py run digits --seeds 0 1 2
	$(if $(MNIST),@$(BIN)/python benchmarks/path_ablation.py run mnist --mnist $(MNIST))
	@$(BIN)/python benchmarks/path_ablation.py page
	$(if $(MNIST),@$(BIN)/python benchmarks/mnist_likelihood.py run --mnist $(MNIST))
	$(if $(MNIST),@$(BIN)/python benchmarks/mnist_likelihood.py page)
	$(if $(TABLES),@$(BIN)/python benchmarks/tabular_density.py run --data $(TABLES))
	$(if $(TABLES),@$(BIN)/python benchmarks/tabular_density.py page)
	$(if $(TABLES),@$(BIN)/python benchmarks/earth.py run --data $(TABLES))
	@$(BIN)/python benchmarks/earth.py page
	@$(BIN)/python benchmarks/manifold_speed.py
	@$(MAKE) -s figures

figures:  ## write docs/benchmarks.md from benchmarks/results
	@$(BIN)/python benchmarks/make_page.py

format: $(STAMPS)/dev  ## format and sort imports
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

clean:  ## remove the environment and everything made
	rm -rf $(VENV) runs docs/_build .pytest_cache .ruff_cache
