FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build

# What changes seldom comes first, so that a change of our code installs nothing anew.
COPY requirements-build.lock requirements-image.lock ./
RUN pip install --no-deps --require-hashes -r requirements-build.lock \
    && python -m venv /opt/refund-service \
    && /opt/refund-service/bin/pip install --no-deps --require-hashes -r requirements-image.lock

COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY openapi openapi
COPY src src
RUN python -m hatchling build --target wheel --directory dist \
    && /opt/refund-service/bin/pip install --no-deps --no-index dist/*.whl \
    && /opt/refund-service/bin/pip uninstall --yes pip

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="refund-service" \
      org.opencontainers.image.description="Refunds and store credit over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/refund-service /opt/refund-service
ENV PATH=/opt/refund-service/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REFUND_MODE=production \
    REFUND_HOST=0.0.0.0 \
    REFUND_PORT=8080 \
    REFUND_OPS_HOST=0.0.0.0 \
    REFUND_OPS_PORT=8081

# A number, so that Kubernetes can see that it is not root. Nothing in the image belongs to it.
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080 8081

HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["refund-service", "health"]
ENTRYPOINT ["refund-service"]
CMD ["serve"]
