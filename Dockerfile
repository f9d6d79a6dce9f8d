# The official Fluent Bit image with the plugin and conf/ in it, for amd64 and
# arm64. It needs BuildKit, which is Docker's builder since 23.0.
#
#   docker build -t out_kinesis_agg .
#   docker buildx build --platform linux/amd64,linux/arm64 -t REPOSITORY --push .
#
# docs/docker.md describes the image.

# A tag can move to another image. For builds that can be repeated, set both base
# images by digest:
#
#   --build-arg GO_IMAGE=golang:1.26.8-bookworm@sha256:...
#   --build-arg FLUENT_BIT_BASE=fluent/fluent-bit:5.1.1@sha256:...
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG FLUENT_BIT_IMAGE=fluent/fluent-bit
ARG FLUENT_BIT_VERSION=5.1.1
ARG FLUENT_BIT_BASE=${FLUENT_BIT_IMAGE}:${FLUENT_BIT_VERSION}

# On the architecture of the build machine, because emulated compilers are slow.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH

# Install a cross compiler if the target has another architecture.
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) compiler=gcc-x86-64-linux-gnu ;; \
        arm64) compiler=gcc-aarch64-linux-gnu ;; \
        *) echo "unsupported architecture $TARGETARCH: use amd64 or arm64" >&2; exit 1 ;; \
    esac; \
    if [ "$TARGETARCH" != "$BUILDARCH" ]; then \
        apt-get update; \
        apt-get install -y --no-install-recommends "$compiler" "libc6-dev-$TARGETARCH-cross"; \
        rm -rf /var/lib/apt/lists/*; \
    fi

WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY Makefile run out_kinesis_agg.go exports.c ./
COPY aggregator aggregator
COPY internal internal
COPY kpl kpl
COPY proto proto
# The version of the plugin, in its log line and user agent. Empty: a development
# version.
ARG VERSION=
RUN set -eu; \
    case "$TARGETARCH" in amd64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; esac; \
    make build/out_kinesis_agg.so VERSION="$VERSION" STRIP=1 CC="$cpu-linux-gnu-gcc" GOOS=linux GOARCH="$TARGETARCH"

# The plugin must not need a newer C library than the image below has. Images of
# Fluent Bit 4 are based on Debian 12, which has glibc 2.36; images of Fluent Bit 5
# are based on Debian 13, which has 2.41.
ARG MAX_GLIBC=2.36
RUN set -eu; \
    needed=$(readelf -V build/out_kinesis_agg.so | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1); \
    echo "the plugin needs $needed, the image has GLIBC_$MAX_GLIBC or later"; \
    test -n "$needed"; \
    test "$(printf '%s\n' "$needed" "GLIBC_$MAX_GLIBC" | sort -V | tail -n 1)" = "GLIBC_$MAX_GLIBC"

# A container is reached from outside only if the HTTP server listens on all of its
# addresses. The folder for waiting chunks belongs to the user of the image, and to
# the group 0, of which the arbitrary users of OpenShift are members.
COPY conf conf
RUN set -eu; \
    sed -i -E 's/^( +http_listen:? +)127\.0\.0\.1$/\10.0.0.0/' conf/fluent-bit.conf conf/fluent-bit.yaml; \
    test "$(grep -lE '^ +http_listen:? +0\.0\.0\.0$' conf/fluent-bit.conf conf/fluent-bit.yaml | wc -l)" = 2; \
    chmod -R a+rX conf; \
    mkdir -p image; \
    mkdir -m 0775 image/storage

# For compose.yaml: an image with kplcat. `docker build` does not build it unless
# it is called with `--target kplcat`.
FROM build AS kplcat-build
ARG TARGETARCH
ARG VERSION=
COPY cmd cmd
RUN set -eu; \
    case "$TARGETARCH" in amd64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; esac; \
    make build/kplcat VERSION="$VERSION" STRIP=1 CC="$cpu-linux-gnu-gcc" GOOS=linux GOARCH="$TARGETARCH"

FROM ${FLUENT_BIT_BASE} AS kplcat
COPY --from=kplcat-build /src/build/kplcat /usr/local/bin/kplcat
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/kplcat"]

FROM ${FLUENT_BIT_BASE}
ARG FLUENT_BIT_VERSION
# For the labels: version, commit and URL of the plugin's source.
ARG VERSION=
ARG REVISION=unknown
ARG SOURCE=
# The base image has labels of its own, which would describe this image wrongly.
LABEL org.opencontainers.image.title="Fluent Bit with out_kinesis_agg" \
      org.opencontainers.image.description="Fluent Bit ${FLUENT_BIT_VERSION} with an output plugin for Amazon Kinesis Data Streams that aggregates records" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="" \
      org.opencontainers.image.authors="" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="" \
      description="Fluent Bit ${FLUENT_BIT_VERSION} with out_kinesis_agg" \
      vendor="" \
      author="" \
      version="${VERSION}"
COPY --from=build /src/build/out_kinesis_agg.so /fluent-bit/lib/out_kinesis_agg.so
# fluent-bit.conf, fluent-bit.yaml, and plugins.conf, which loads the plugin.
COPY --from=build /src/conf/ /fluent-bit/etc/
COPY --from=build --chown=65532:0 /src/image/ /fluent-bit/
# The root file system can be read-only: nothing but this volume is written.
VOLUME /fluent-bit/storage
# As a number, so that Kubernetes can check runAsNonRoot. To read files that only
# root can read, run the container as user 0.
USER 65532:65532
EXPOSE 2020
ENTRYPOINT ["/fluent-bit/bin/fluent-bit"]
CMD ["-c", "/fluent-bit/etc/fluent-bit.conf"]
