# Every target sets up .venv when it is missing. `make demo` and `make test` are all a new machine needs.
# CUDA is DALI's flavour, 13 or 12; either runs without a GPU. Override a variable on the command line:
# `make demo CUDA=12`; `make help` lists the targets.
CUDA   := 13
PYTHON := python3
VENV   := .venv

# make shards
SET := fashion-footwear
SRC := shards/sample
OUT := out/shards
# make demo
DEMO      := out/demo
NEGATIVES := rot-in
OOD       := t-shirt trouser pullover dress coat bag shirt

READY := $(VENV)/.ready-cuda$(CUDA)
PY    := $(VENV)/bin/python
# The flavours share their files, so only one can be installed.
OTHER_DALI := $(filter-out nvidia-dali-cuda$(CUDA)0,nvidia-dali-cuda120 nvidia-dali-cuda130)

# A mistyped variable would be passed over, and the target would do something else than was asked for.
VARIABLES  := ARGS CUDA DEMO NEGATIVES OOD OUT PYTHON SET SRC VENV
TAKES_ARGS := shards preview train score board
GIVEN      := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
UNKNOWN    := $(filter-out $(VARIABLES) SHELL -%,$(GIVEN))
# For the shell, as one word.
quoted      = '$(subst ','\'',$1)'
# "; did you mean ARGS?", or nothing.
MEANT       = $(shell $(PYTHON) -c 'import difflib, sys; known = sys.argv[1].split(); \
    close = [difflib.get_close_matches(word.upper(), known, 1) for word in sys.argv[2:]]; \
    print("; did you mean " + " and ".join(sum(close, [])) + "?" if any(close) else "")' \
    '$(VARIABLES)' $(foreach v,$(UNKNOWN),$(call quoted,$v)) 2>/dev/null)
$(if $(UNKNOWN),$(error unknown variable $(UNKNOWN); there are ARGS (the options of \
    $(TAKES_ARGS)) and $(filter-out ARGS,$(VARIABLES))$(MEANT)))
$(if $(filter ARGS,$(GIVEN)),$(if $(filter $(TAKES_ARGS),$(MAKECMDGOALS)),,\
    $(error ARGS is for $(TAKES_ARGS), not for $(or $(MAKECMDGOALS),setup))))

.PHONY: setup help demo shards preview parity train score test test-quick test-gpu gpu-check reliability \
    reliability-long minima lint format bench board clean

setup: $(READY)  ## .venv with all that is needed; every other target sees to it too

help:  ## This list
	@echo 'make TARGET [VARIABLE=VALUE ...]'
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  %-18s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'ARGS are the options of $(TAKES_ARGS). Other variables, and what they are:'
	@printf '  %-18s%s\n' $(foreach v,$(filter-out ARGS,$(VARIABLES)),$v $(call quoted,$($v)))

$(READY): setup.py
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip uninstall -qq --yes $(OTHER_DALI)
	rm -f $(VENV)/.ready-*
	$(PY) -m pip install --quiet --editable ".[cuda$(CUDA),dev]"
	touch $@

# Shards, training and scores of the sample images, and one table at the end.
demo: $(READY)  ## Shards, training and scores of the sample images, and one table
	$(PY) -m shards.sets --protocol fashion-footwear --src $(SRC) --out $(DEMO)/shards
	$(PY) train/main.py demo-cpu --in-dist $(DEMO)/shards/in-dist-train \
	    --in-dist-test $(DEMO)/shards/in-dist-test --negatives $(NEGATIVES) --out $(DEMO)/run
	$(PY) eval/score.py $(DEMO)/run --baselines --in-dist-train $(DEMO)/shards/in-dist-train \
	    --in-dist-test $(DEMO)/shards/in-dist-test --ood $(addprefix $(DEMO)/shards/,$(OOD)) \
	    --out $(DEMO)/scores

# A named protocol's shards (the sample's by default), or with ARGS one set from any source:
#   make shards ARGS="--source folder --src my/photos --size-px 32 --out out/photos"
shards: $(READY)  ## A named protocol's shards (SET, SRC, OUT), or one set from any source (ARGS)
ifdef ARGS
	$(PY) -m shards.build $(ARGS)
else
	$(PY) -m shards.sets --protocol $(SET) --src $(SRC) --out $(OUT)
endif

# As the training is told, or of a run that is there; --out is a picture:
#   make preview ARGS="auto --in-dist out/photos --out out/views.png"
#   make preview ARGS="out/run --out out/views.png"
preview: $(READY)  ## A picture of the views and negatives of a recipe or a run (ARGS)
ifdef ARGS
	$(PY) -m train.preview $(ARGS)
else
	$(PY) -m shards.sets --protocol $(SET) --src $(SRC) --out $(OUT)
	$(PY) -m train.preview demo-cpu --in-dist $(OUT)/in-dist-train --out out/preview.png
endif

# Every operation and view against Pillow and torchvision, with one line of JSON at the end.
parity: $(READY)  ## Every operation and view against Pillow and torchvision
	$(PY) -m dali_pipes.parity

#   make train ARGS="demo-cpu --in-dist out/shards/in-dist-train --out out/run"
train: $(READY)  ## Train a detector (ARGS)
	$(PY) train/main.py $(ARGS)

#   make score ARGS="out/run --in-dist-train ... --in-dist-test ... --ood ... --out out/scores"
score: $(READY)  ## Score a run, or images by it (ARGS)
	$(PY) eval/score.py $(ARGS)

# One thread a test process; modules with slow tests first (tests/conftest.py), not the largest.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder

test: $(READY)  ## The tests, on all cores
	$(PYTEST) -m "not gpu"

test-quick: $(READY)  ## The tests without the slow ones: a minute or two
	$(PYTEST) -m "not gpu and not slow"

test-gpu: $(READY)  ## The tests that need a GPU
	nvidia-smi --list-gpus
	$(PY) -m pytest -m gpu

# Everything that only a GPU can show, with one line of JSON at the end.
gpu-check: $(READY)  ## Everything that only a GPU can show
	$(PY) -m benchmarks.gpu_check

# Faults that a user will meet, many times over (tests/faults), with one line of JSON at the end.
reliability: $(READY)  ## Faults that a user will meet, many times over
	$(PY) -m tests.faults

reliability-long: $(READY)  ## The same with larger numbers
	$(PY) -m tests.faults --long

# The minimum of every requirement, from the package index (minutes), with one line of JSON at the end.
minima: $(READY)  ## The declared minimum of every requirement, installed and used
	rm -rf out/minima
	$(PY) -m tests.support.minima

lint: $(READY)  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(READY)  ## Mend what ruff can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(READY)  ## Compare speeds
	$(PY) -m benchmarks.loader
	$(PY) -m benchmarks.step
	$(PY) -m benchmarks.scorer
	$(PY) -m benchmarks.shards

# The ensemble beside its members and rivals, on some twenty tasks: hours, but it goes on where it stopped.
board: $(READY)  ## Compare the ensemble with its members on many tasks (ARGS)
	$(PY) -m benchmarks.board $(ARGS)

clean:  ## Remove .venv and out/
	rm -rf $(VENV) out build *.egg-info
