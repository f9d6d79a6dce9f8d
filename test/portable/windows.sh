#!/bin/sh
# Runs the Windows library under Wine: tests of test/e2e that need no engine, with the
# ABI host built for Windows. Records, readers and the local Kinesis are those of this
# machine. Before that come vet and staticcheck (the program that STATICCHECK names) of
# the code for Windows, the commands beside the library, if any, and the tests of
# internal/kinesis of the environment, of files and of processes with credentials.
#
#	windows.sh LIBRARY ROOT [ARGUMENT...]
#
# Arguments go to the test program, such as -test.run=TestFaults. Needs a cross compiler
# (Debian: gcc-mingw-w64-x86-64) and Wine 10 or later, which Go needs. Without one on
# PATH, Wine of Debian 13 is installed into ROOT (700 MB, 3 minutes); this needs root
# and debootstrap.
set -eu
library=$(realpath "$1") root=$2
shift 2
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
command -v x86_64-w64-mingw32-gcc >/dev/null || { echo "windows: x86_64-w64-mingw32-gcc is missing" >&2; exit 1; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/prefix"
export WINEDEBUG=-all WINEPREFIX="$tmp/prefix" XDG_RUNTIME_DIR="$tmp"
version=$(wine --version 2>/dev/null | sed -n 's/^wine-\([0-9]*\).*/\1/p')
if [ "${version:-0}" -ge 10 ]; then
	chroot=
else
	[ "$(id -u)" -eq 0 ] || { echo "windows: Wine 10 is not on PATH, and installing it into $root needs root" >&2; exit 1; }
	if [ ! -e "$root/.complete" ]; then
		rm -rf "$root"
		mkdir -p "$root"
		debootstrap --variant=minbase trixie "$root" "$mirror"
		chroot "$root" apt-get update -qq
		chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends wine wine64
		touch "$root/.complete"
	fi
	# Wine asks the C library for names.
	[ -e "$root/etc/hosts" ] || echo 127.0.0.1 localhost >"$root/etc/hosts"
	root=$(realpath "$root")
	chroot="chroot $root"
fi

# The C compiler that test/e2e builds the ABI host with: the host in the file is one
# that starts itself under Wine. Wine's drive Z: is the root of the file system, and a
# path that begins with / is one on the drive of the working directory.
cat >"$tmp/cc" <<'CC'
#!/bin/sh
set -e
out= previous=
for word; do
	shift
	[ "$previous" != -o ] || out=$word
	previous=$word
	case $word in
	-rdynamic | -ldl | -std=c11) ;;
	*) set -- "$@" "$word" ;;
	esac
done
x86_64-w64-mingw32-gcc -std=gnu11 -D__USE_MINGW_ANSI_STDIO=1 -D_POSIX_C_SOURCE=200809L -static "$@"
mv "$out" "$out.exe" 2>/dev/null || test -e "$out.exe"
CC
printf 'cat >"$out" <<HOST\n#!/bin/sh\ncd /\nexec %s wine "$out.exe" "\\$@"\nHOST\nchmod +x "$out"\n' "$chroot" >>"$tmp/cc"
chmod +x "$tmp/cc"
# What a Linux build of these packages does not compile.
packages=". ./aggregator ./internal/... ./kpl/... ./cmd/kinesis-agg-plan"
# shellcheck disable=SC2086 # packages are words
GOOS=windows GOARCH=amd64 CC=x86_64-w64-mingw32-gcc CGO_ENABLED=1 go vet $packages
# shellcheck disable=SC2086
go run -exec 'env GOOS=windows GOARCH=amd64 CC=x86_64-w64-mingw32-gcc CGO_ENABLED=1' "$STATICCHECK" $packages

cp "$library" "$tmp/out_kinesis_agg.dll"
cp "$(dirname "$library")"/*.exe "$tmp" 2>/dev/null || true
GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go test -c -o "$tmp/kinesis.test.exe" ./internal/kinesis
go test -c -o "$tmp/e2e.test" ./test/e2e

# Left out: tests with the engine, those of what Windows does not have or the host there
# does not do, and those that nobody has run there yet. Of internal/kinesis: scripts of
# sh, links, names of Linux in messages, names of variables that differ in case only,
# and a byte order mark, which is refused on Windows.
all=
[ $# -gt 0 ] || {
	all=1
	set -- -test.run '^(TestChunk_OneRecord|TestChunks_ThreadsAndInstances|TestCompression|TestCredentialsAndProxy|TestExit_.*|TestFaults|TestFaults_Batches|TestFIPS|TestOptions_Invalid|TestResume|TestTLS|TestWithoutWorkers_LoggedOnce)$'
}
export TMP_DIR="$tmp" ROOT="$root" CHROOT="$chroot" ALL="$all"
# shellcheck disable=SC2016 # the inner shell expands the variables
unshare --mount sh -euc '
	if [ -n "$CHROOT" ]; then
		mount --bind /tmp "$ROOT/tmp"
		mount --bind /dev "$ROOT/dev"
		mount -t proc proc "$ROOT/proc"
	fi
	cd /
	$CHROOT wine --version
	# One server for all runs of the host; without it, each starts one and boots.
	$CHROOT wineserver -p
	trap "cd / && $CHROOT wineserver -k" EXIT
	$CHROOT wine cmd /c exit >"$TMP_DIR/wine.log" 2>&1 || { cat "$TMP_DIR/wine.log"; exit 1; }
	if [ -n "$ALL" ]; then
		for command in "$TMP_DIR"/kplcat.exe "$TMP_DIR"/kinesis-agg-plan.exe; do
			[ ! -e "$command" ] || $CHROOT wine "$command" --version
		done
		$CHROOT wine "$TMP_DIR/kinesis.test.exe" -test.timeout 5m -test.run "^Test(Environment|Files|Open|Process|Recovery|Reload|TLS)_" \
			-test.skip "TestReload_CredentialProcess|TestReload_FileChanges/directory.*|TestEnvironment_InvalidValuesAreRefused/(blanks|no_CA_file|plain_HTTP|lower_case)|TestFiles_SharedFiles/byte_order_mark|TestOpen_NamesTheSetting/no_such_file"
	fi
	cd "$OLDPWD/test/e2e"
	CC="$TMP_DIR/cc" OUT_KINESIS_AGG_SO="$TMP_DIR/out_kinesis_agg.dll" FLUENT_BIT=/nonexistent \
		"$TMP_DIR/e2e.test" -test.skip "Sanitiz|FluentBit|Samples" -test.timeout 30m "$@"
' sh "$@"
echo "windows: the library runs under Wine"
