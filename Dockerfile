# One environment for every run: Python, the locked packages, this checkout.
#
#   docker build --build-arg UID="$(id -u)" -t reprise .
#   docker run --rm --init --gpus all --shm-size 8g -v "$PWD/outputs:/app/outputs" reprise experiment=base
#   docker run --rm --init -v "$PWD/outputs:/app/outputs" --entrypoint python reprise scripts/evaluate.py RUN_DIR
#
# --shm-size: DataLoader workers hand batches over in /dev/shm, where Docker allows 64 MB; with too little of it they
# die of a bus error. --ipc=host does it too.
# --gpus all takes the NVIDIA container toolkit on the host; without a GPU leave it out.
# A tag moves: for the same image on a later day, build with PYTHON_IMAGE=python:3.12-slim@sha256:….
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

# Runs record the commit they ran from. training.compile takes a C++ compiler besides: add g++ here.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app

# The packages are a layer of their own, made anew only when the lock changes. What the lock has as source alone is
# built with the locked setuptools, not with one fetched for the build: nothing comes in unchecked.
COPY requirements.lock ./
RUN --mount=type=cache,target=/var/cache/pip \
    export PIP_CACHE_DIR=/var/cache/pip \
    && awk '/^[^ #]/ {wanted = /^setuptools==/} wanted' requirements.lock > /tmp/setuptools.lock \
    && pip install --require-hashes -r /tmp/setuptools.lock \
    && pip install --require-hashes --no-build-isolation -r requirements.lock \
    && rm /tmp/setuptools.lock

# The id of whoever owns the host's outputs/, so that a run in the container can write there.
ARG UID=1000
RUN useradd --create-home --uid "${UID}" reprise \
    && git config --system --add safe.directory /app

# Editable: packages under /app/src are importable and trusted, also those that are mounted there later.
COPY --chown=reprise . .
RUN pip install --no-deps --no-build-isolation --editable . \
    && mkdir -p outputs \
    && chown reprise . outputs

USER reprise
ENV CUBLAS_WORKSPACE_CONFIG=:4096:8 \
    PYTHONHASHSEED=0
VOLUME /app/outputs
ENTRYPOINT ["python", "scripts/train.py"]
