#!/bin/sh
# Runs the arm64 library under qemu-user: the tests of test/e2e that need no engine,
# with the ABI host built for arm64. Records, readers and the local Kinesis are those
# of this machine.
#
#	arm64.sh LIBRARY [ARGUMENT...]
#
# Arguments go to the test program, such as -test.run=TestFaults. Without them it runs
# the demo first, build/demo, with the library and the kplcat beside it. Needs
# qemu-aarch64-static and a cross compiler with the C library for arm64 (Debian:
# qemu-user-static, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross).
set -eu
library=$(realpath "$1")
shift
for tool in qemu-aarch64-static aarch64-linux-gnu-gcc; do
	command -v "$tool" >/dev/null || { echo "arm64: $tool is missing" >&2; exit 1; }
done

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# The C compiler that test/e2e builds the ABI host with: the host in the file is one
# that starts itself under qemu.
cat >"$tmp/cc" <<'CC'
#!/bin/sh
set -e
aarch64-linux-gnu-gcc "$@"
out=
previous=
for word; do
	[ "$previous" != -o ] || out=$word
	previous=$word
done
mv "$out" "$out.arm64"
printf '#!/bin/sh\nexec qemu-aarch64-static -L /usr/aarch64-linux-gnu "%s" "$@"\n' "$out.arm64" >"$out"
chmod +x "$out"
CC
chmod +x "$tmp/cc"
# With a Fluent Bit on PATH the demo would load the library into it.
if [ $# -eq 0 ] && ! command -v fluent-bit >/dev/null; then
	CC="$tmp/cc" && "$CC" -std=c11 -O1 -rdynamic -pthread -o "$tmp/abihost" test/cmd/abihost/abihost.c -ldl
	printf '#!/bin/sh\nexec qemu-aarch64-static -L /usr/aarch64-linux-gnu "%s" "$@"\n' "$(dirname "$library")/kplcat" >"$tmp/kplcat"
	chmod +x "$tmp/kplcat"
	env -u FLUENT_BIT build/demo -plugin "$library" -abihost "$tmp/abihost" -kplcat "$tmp/kplcat"
fi
go test -c -o "$tmp/e2e.test" ./test/e2e
cd test/e2e
# Left out: tests with the engine, with sanitizers and with other compilers, and those
# that measure the memory, the threads or the stack of the host, which here are those
# of qemu.
CC="$tmp/cc" OUT_KINESIS_AGG_SO="$library" FLUENT_BIT=/nonexistent "$tmp/e2e.test" \
	-test.skip 'Sanitiz|FluentBit|Samples|CoroutineStack|Signals|TestTags_Many|TestLibrary_LoadedRepeatedly|Memory' \
	-test.timeout 30m "$@"
echo "arm64: the library runs under $(qemu-aarch64-static --version | head -n 1)"
