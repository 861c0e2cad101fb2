SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
# Stages and DVC find the virtual environment's python first; telemetry of the tools is off.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true
export DVC_NO_ANALYTICS ?= 1
export GX_ANALYTICS_ENABLED ?= false

.DEFAULT_GOAL := help
.PHONY: help setup demo tables test image e2e servers bench-data bench-detect bench-recipe bench-training bench-verdicts bench-scale bench-serve ui lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: .venv/.lock ## Make .venv from requirements.lock (skipped when current)
	@[ -e .git ] || dvc config --local core.no_scm true # an unpacked archive has no git, for which DVC asks

.venv/.lock: requirements.lock
	$(PYTHON) -m venv .venv
	@command -v uv > /dev/null || $(BIN)/pip install --quiet "$$(grep '^uv==' requirements.lock)"
	uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps -r requirements.lock
	cp requirements.lock $@

VIDEOS = data/ffpp
demo: setup ## The main job on generated sample data: train, evaluate, gate, promote; judge two test videos
	dvc repro
	python -m components promote --model models/emd --evaluation evaluation --decision decision \
	  --faces data/faces --masks data/masks
	python -m pipelines summary
	rm -rf verdicts
	python -m components detect $(VIDEOS)/original_sequences/youtube/c23/videos/044.mp4 \
	  $(VIDEOS)/manipulated_sequences/NeuralTextures/c23/videos/044_045.mp4 --out verdicts

tables: setup ## The paper's tables and figures on the sample data; goes on where it was stopped
	python -m pipelines experiments

test: setup ## Unit and contract tests
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache --no-logo
	OMP_NUM_THREADS=1 pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

e2e: setup image ## The whole pipeline in containers, by a Docker engine (minutes)
	EMD_IMAGE=$(IMAGE) pytest -s tests/pipelines/e2e.py

servers: setup ## Runs against MLflow servers and PostgreSQL that go away, as tests (minutes; Debian: apt install postgresql)
	pytest --numprocesses 2 --dist loadfile tests/*/servers_*.py

bench-data: setup ## Videos to face crops: this pipeline against OpenCV, decord and MTCNN (half an hour)
	$(BIN)/pip install --quiet --no-deps decord==0.6.0
	python -m benchmarks.data

bench-verdicts: setup ## What detect answers on the sample's test videos, after make demo (minutes)
	python -m benchmarks.verdicts

bench-detect: setup ## Verdicts against the loop that people use: time, answers, memory (half an hour)
	python -m benchmarks.detect

bench-training: setup ## How fast a detector is fed, by the number of workers, after make demo (minutes)
	python -m benchmarks.training

bench-recipe: setup ## The ablation of train_emd.recipe over seeds, after make demo; goes on where it was stopped (hours)
	python -m benchmarks.recipe

bench-scale: setup ## Time and memory of the data stages for 10, 100 and 1000 videos, and a kill (minutes)
	python -m benchmarks.data_scale

bench-serve: setup ## The service under 50 clients and 10,000 files, with the champion of make demo (ten minutes)
	python -m benchmarks.service

PORT ?= 5000
ui: setup ## Start the MLflow UI on http://127.0.0.1:5000, or another PORT= (choose "Model training" at its top left)
	@python -c "import socket; socket.create_server(('127.0.0.1', $(PORT)))" 2> /dev/null \
	  || { echo "error: port $(PORT) cannot be had; choose another one, such as make ui PORT=5001." >&2; exit 2; }
	mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db} --host 127.0.0.1 --port $(PORT)

# The image's name and labels say "-dirty" where what goes into it is not what was committed.
DIRTY = $(if $(shell git status --porcelain -- Dockerfile .dockerignore requirements.image.lock components emd_core),-dirty)
IMAGE ?= emd:$(shell git rev-parse --short=12 HEAD)$(DIRTY)
REVISION ?= $(shell git rev-parse HEAD)$(DIRTY)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

image: ## Build the stages' container image (IMAGE=, BASE_IMAGE=, TORCH_CPU_INDEX= for one without CUDA)
	docker build --tag $(IMAGE) --build-arg REVISION=$(REVISION) --build-arg VERSION=$(VERSION) \
	  $(foreach name,BASE_IMAGE TORCH_CPU_INDEX SOURCE,$(if $($(name)),--build-arg $(name)=$($(name)))) .
	@docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' $(IMAGE)

# --constraint: the image's versions are the tests'. triton only serves torch.compile, which no stage uses: 1 GB.
COMPILE = uv pip compile --quiet --python-version 3.11 --override requirements.override --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate

lock: setup ## Resolve requirements.in and requirements.image.in into their locks
	$(COMPILE) requirements.in -o requirements.lock
	$(COMPILE) --constraint requirements.lock --no-emit-package triton requirements.image.in -o requirements.image.lock

clean: ## Remove what the stages made (data, models, runs stay in MLflow)
	rm -rf data models evaluation decision verdicts experiments/cells experiments/simfer experiments/robustness \
	  experiments/difference experiments/results.* experiments/*.png
