# Two images from one file: `slim` runs every service and trains trees, `ml` trains networks as well, with torch.
#
#   docker build --target slim -t conclave:slim .
#
# Every version comes from constraints.txt. Where the registry is out of reach: put wheels into wheels/ (`make wheels`)
# and build with --build-arg PIP_NO_INDEX=1, or certificates of a private registry (*.crt) into certs/ and name
# it with --build-arg PIP_INDEX_URL. Both folders are ignored by git; nothing of them stays in the image.
# TORCH_INDEX: torch without CUDA, a tenth of the size. Empty: torch as the registry has it.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_NO_INDEX PIP_DEFAULT_TIMEOUT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT=/src/constraints.txt PIP_FIND_LINKS=/wheels PIP_CERT=/etc/ssl/certs/ca-certificates.crt
WORKDIR /src
RUN python3 -m venv --without-pip /opt/conclave
# The distribution without its packages: what it needs is installed once, and again only when that changes.
COPY pyproject.toml constraints.txt README.md ./
COPY certs* /usr/local/share/ca-certificates/
COPY wheels* /wheels/
RUN mkdir -p /wheels && update-ca-certificates >/dev/null 2>&1
ENV INSTALL="python3 -m pip --python /opt/conclave/bin/python install --quiet" \
    COMPILE="python3 -m compileall -q -x _internal/py312 --invalidation-mode unchecked-hash" \
    PACKAGES=/opt/conclave/lib/python3*/site-packages
RUN $INSTALL '.[train,networks,telemetry,notify,exchange,observatory,phone]' && $COMPILE $PACKAGES

FROM build AS build-ml
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL $TORCH_INDEX" $INSTALL --no-deps torch
RUN $INSTALL '.[train,ml,parquet,telemetry]' && $COMPILE $PACKAGES
COPY conclave_signals.py ./
COPY schemas schemas
COPY shared shared
COPY services services
RUN $INSTALL --no-deps --force-reinstall . && cd $PACKAGES && $COMPILE conclave_signals.py schemas shared services

FROM build AS build-slim
COPY conclave_signals.py ./
COPY schemas schemas
COPY shared shared
COPY services services
RUN $INSTALL --no-deps --force-reinstall . && cd $PACKAGES && $COMPILE conclave_signals.py schemas shared services

FROM ${PYTHON_IMAGE} AS base
# LightGBM asks for the system's OpenMP.
RUN ldconfig -p | grep -q libgomp.so.1 || { apt-get update && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*; }
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin conclave \
    && install -d -o conclave -g conclave -m 750 /var/lib/conclave
ENV PATH=/opt/conclave/bin:$PATH PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 HOME=/tmp
USER conclave
WORKDIR /var/lib/conclave
ENTRYPOINT ["conclave"]

FROM base AS ml
COPY --from=build-ml /opt/conclave /opt/conclave

FROM base AS slim
COPY --from=build-slim /opt/conclave /opt/conclave
