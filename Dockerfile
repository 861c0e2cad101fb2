# The image of every stage: `make image`. By default torch is its ordinary Linux build, which runs on CPUs and GPUs.
# Any Debian base with Python 3.11 and its venv module does, and both stages must have the same.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
# An image without CUDA: give the address of PyTorch's index of CPU builds, whose "+cpu" versions are then preferred.
ARG TORCH_CPU_INDEX=""
COPY requirements.image.lock /tmp/
# uv, which installs in a third of pip's time, stays outside the environment that is shipped. torch is imported once, so
# that a wrong index fails here.
RUN python3 -m venv /opt/pip \
 && python3 -m venv --without-pip /opt/venv \
 && cd /tmp \
 && if [ -n "${TORCH_CPU_INDEX}" ]; then sed -i -E '/^(nvidia|cuda)-/d' requirements.image.lock; fi \
 && /opt/pip/bin/pip install --quiet --no-cache-dir uv==0.13.9 \
 && UV_HTTP_TIMEOUT=120 /opt/pip/bin/uv pip install --python /opt/venv/bin/python --quiet --no-cache --no-deps \
      --compile-bytecode --index-strategy unsafe-best-match \
      ${TORCH_CPU_INDEX:+--extra-index-url "${TORCH_CPU_INDEX}"} -r requirements.image.lock \
 && /opt/venv/bin/python -c "import torch, torchvision"

WORKDIR /opt/emd
COPY components components
COPY emd_core emd_core
# Byte code now, as the file system will be read-only; readable whatever the builder's umask was.
RUN chmod -R a+rX . && /opt/venv/bin/python -m compileall -q .

FROM ${BASE_IMAGE}
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/emd /opt/emd
# Data may come by `dvc get` from a mounted repository, which belongs to a user of the host.
RUN printf '[safe]\n\tdirectory = *\n' > /etc/gitconfig

# PYTHONSAFEPATH: a data volume as working directory cannot shadow the code. HOME: libraries that keep a cache do it in
# /tmp, the one place besides the data that must be writable. USER: a name for libraries that ask for one, whatever the
# number, which has no entry in /etc/passwd. DVC clones without git, and GitPython need not complain of that.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/emd \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=emd \
    MPLCONFIGDIR=/tmp/matplotlib \
    DVC_SITE_CACHE_DIR=/tmp/dvc \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=1 \
    GX_ANALYTICS_ENABLED=false \
    NO_ALBUMENTATIONS_UPDATE=1

# Last, so that a new commit makes no other layer anew.
ARG REVISION=""
ARG VERSION=""
ARG SOURCE=""
ENV EMD_GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="emd" \
      org.opencontainers.image.description="Stages of EMD: detection and localisation of facial expression manipulation" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

WORKDIR /data
USER 1000:1000
HEALTHCHECK NONE
# No ENTRYPOINT: Kubernetes would replace it, local runners would add to it.
CMD ["python", "-m", "components", "--help"]
