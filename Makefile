# Every target sets up .venv when it is missing. `make demo` and `make test` are all a new machine needs.
# CUDA is DALI's flavour, 13 or 12; either runs without a GPU. Override a variable on the command line:
# `make demo CUDA=12`.
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

.PHONY: setup demo shards preview parity train score test test-gpu gpu-check reliability reliability-long \
    minima lint format bench clean

setup: $(READY)

$(READY): setup.py
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip uninstall -qq --yes $(OTHER_DALI)
	rm -f $(VENV)/.ready-*
	$(PY) -m pip install --quiet --editable ".[cuda$(CUDA),dev]"
	touch $@

# Shards, training and scores of the sample images, and one table at the end.
demo: $(READY)
	$(PY) -m shards.sets --protocol fashion-footwear --src $(SRC) --out $(DEMO)/shards
	$(PY) train/main.py demo-cpu --in-dist $(DEMO)/shards/in-dist-train --negatives $(NEGATIVES) \
	    --out $(DEMO)/run
	$(PY) eval/score.py $(DEMO)/run --baselines --in-dist-train $(DEMO)/shards/in-dist-train \
	    --in-dist-test $(DEMO)/shards/in-dist-test --ood $(addprefix $(DEMO)/shards/,$(OOD)) \
	    --out $(DEMO)/scores

# A named protocol's shards (the sample's by default), or with ARGS one set from any source:
#   make shards ARGS="--source folder --src my/photos --size-px 32 --out out/photos"
shards: $(READY)
ifdef ARGS
	$(PY) -m shards.build $(ARGS)
else
	$(PY) -m shards.sets --protocol $(SET) --src $(SRC) --out $(OUT)
endif

# A contact sheet of views and negatives.
preview: $(READY)
ifdef ARGS
	$(PY) -m dali_pipes.preview $(ARGS)
else
	$(PY) -m shards.sets --protocol $(SET) --src $(SRC) --out $(OUT)
	$(PY) -m dali_pipes.preview $(OUT)/in-dist-train --negatives rot-in --views.global-px 112 \
	    --views.local-px 56 --views.local-views 4 --out out/preview.png
endif

# Every operation and view against Pillow and torchvision, with one line of JSON at the end.
parity: $(READY)
	$(PY) -m dali_pipes.parity

#   make train ARGS="demo-cpu --in-dist out/shards/in-dist-train --out out/run"
train: $(READY)
	$(PY) train/main.py $(ARGS)

#   make score ARGS="out/run --in-dist-train ... --in-dist-test ... --ood ... --out out/scores"
score: $(READY)
	$(PY) eval/score.py $(ARGS)

test: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not gpu" --numprocesses auto --dist loadscope

test-gpu: $(READY)
	nvidia-smi --list-gpus
	$(PY) -m pytest -m gpu

# Everything that only a GPU can show, with one line of JSON at the end.
gpu-check: $(READY)
	$(PY) -m benchmarks.gpu_check

# Faults that a user will meet, many times over (tests/faults), with one line of JSON at the end.
reliability: $(READY)
	$(PY) -m tests.faults

reliability-long: $(READY)
	$(PY) -m tests.faults --long

# The minimum of every requirement, installed and used (minutes, from the package index), with one
# line of JSON at the end.
minima: $(READY)
	rm -rf out/minima
	$(PY) -m tests.minima

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(READY)
	$(PY) -m benchmarks.loader
	$(PY) -m benchmarks.step
	$(PY) -m benchmarks.scorer
	$(PY) -m benchmarks.shards

clean:
	rm -rf $(VENV) out build *.egg-info
