FROM python:3.12-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

WORKDIR /app
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY workflows ./workflows
COPY infra ./infra
COPY activities ./activities
COPY api ./api
COPY workers ./workers
COPY clients ./clients
RUN pip install --no-deps --no-build-isolation -e . \
 && useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin orchestrator \
 && install -d -o orchestrator -g orchestrator -m 0700 /var/lib/gpu-orchestrator

USER orchestrator
ENV ORCHESTRATOR_DATA_DIR=/var/lib/gpu-orchestrator
EXPOSE 8080
ENTRYPOINT ["gpu-orchestrator"]
CMD ["--help"]
