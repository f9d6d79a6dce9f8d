#!/bin/sh
# Builds the release a second time, as different as possible, and compares it with
# the files in DIST: another folder, another user, another umask and time zone,
# another path of zig, no caches of the compilers, GOFLAGS of a user, and an archive
# without .git instead of a checkout.
#
#   reproduce.sh DIST ZIG
#
# Needs root, to become another user, and a commit without changes.
set -eu
dist=$(realpath "$1") zig=$(realpath "$2")
[ "$(id -u)" -eq 0 ] || { echo "reproduce: this needs root, to become another user" >&2; exit 1; }
version=$(printf '%s\n' "$dist"/out_kinesis_agg-*-linux-*.tar.gz | sed -n '1s/.*out_kinesis_agg-\(.*\)-linux-.*/\1/p')
for archive in "$dist"/*.tar.gz; do
	built=$(tar --utc --full-time -tvzf "$archive" | awk 'NR == 1 { print $4, $5 }')
	if [ "$built" != "$(date -u -d "@$(internal/version/version.sh --date)" '+%F %T')" ]; then
		echo "reproduce: $archive is of another commit: run make dist first" >&2
		exit 1
	fi
done
modules=$(go env GOMODCACHE)
proxy=$(go env GOPROXY)
go=$(dirname "$(command -v go)")

other=$(mktemp -d)
trap 'chmod -R u+w "$other"; rm -rf "$other"' EXIT
mkdir "$other/a folder" "$other/home"
git archive HEAD | tar -x -C "$other/a folder"
cp -r "$(dirname "$zig")" "$other/zig-elsewhere"
# The downloaded modules are verified with go.sum; copying saves the download.
cp -r "$modules" "$other/modules"
chown -R nobody "$other"
chmod 0755 "$other"
cd "$other/a folder"
# An archive has no .git, so the version must be in archive.txt or in VERSION.
setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH="$go:/usr/bin:/bin" HOME="$other/home" \
	MAINTAINER="$MAINTAINER" HOMEPAGE="$HOMEPAGE" TZ=Asia/Tokyo LC_ALL=C GOPROXY="$proxy" GOMODCACHE="$other/modules" GOFLAGS=-buildvcs=auto GOAMD64=v3 CGO_CFLAGS=-O1 \
	${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} ${https_proxy:+https_proxy="$https_proxy"} \
	sh -c "umask 077; make dist VERSION=$version ZIG='$other/zig-elsewhere/zig' GOFLAGS=-v"
if ! diff "$dist/SHA256SUMS" "build/dist/SHA256SUMS"; then
	echo "reproduce: the files above differ" >&2
	exit 1
fi
echo "reproduce: all files are the same, byte for byte"
