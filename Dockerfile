# The official Fluent Bit image with the plugin and conf/ in it, for amd64 and
# arm64. It needs BuildKit, which is Docker's builder since 23.0.
#
#   docker build -t out_kinesis_agg .
#   docker buildx build --platform linux/amd64,linux/arm64 -t REPOSITORY --push .

ARG GO_IMAGE=golang:1.26.8-bookworm
ARG FLUENT_BIT_IMAGE=fluent/fluent-bit
ARG FLUENT_BIT_VERSION=5.1.1

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
RUN set -eu; \
    case "$TARGETARCH" in amd64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; esac; \
    make build/out_kinesis_agg.so STRIP=1 CC="$cpu-linux-gnu-gcc" GOOS=linux GOARCH="$TARGETARCH"

# The plugin must not need a newer C library than the image below has. Images of
# Fluent Bit 4 are based on Debian 12, which has glibc 2.36; images of Fluent Bit 5
# are based on Debian 13, which has 2.41.
ARG MAX_GLIBC=2.36
RUN set -eu; \
    needed=$(readelf -V build/out_kinesis_agg.so | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1); \
    echo "the plugin needs $needed, the image has GLIBC_$MAX_GLIBC or later"; \
    test -n "$needed"; \
    test "$(printf '%s\n' "$needed" "GLIBC_$MAX_GLIBC" | sort -V | tail -n 1)" = "GLIBC_$MAX_GLIBC"

FROM ${FLUENT_BIT_IMAGE}:${FLUENT_BIT_VERSION}
COPY --from=build /src/build/out_kinesis_agg.so /fluent-bit/lib/out_kinesis_agg.so
# fluent-bit.conf, fluent-bit.yaml, and plugins.conf, which loads the plugin.
COPY conf/ /fluent-bit/etc/
ENTRYPOINT ["/fluent-bit/bin/fluent-bit"]
CMD ["-c", "/fluent-bit/etc/fluent-bit.conf"]
