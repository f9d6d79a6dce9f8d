#!/bin/sh
# Runs the library of a release where the C library is old: the tests of test/e2e
# that need no engine, with the ABI host built against glibc 2.17 and started in a
# Debian 11 root (glibc 2.31). Then it installs the .deb there and starts the host
# with the installed library and kplcat.
#
#   run.sh DIST ZIG ROOT
#
# DIST has the files of `make dist`. Needs root, debootstrap and Linux namespaces.
# ROOT is created if it does not exist (300 MB, 2 minutes).
set -eu
dist=$(realpath "$1") zig=$(realpath "$2") root=$3
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

[ "$(id -u)" -eq 0 ] || { echo "portable: this needs root, for chroot and mount" >&2; exit 1; }
if [ ! -e "$root/.complete" ]; then
	rm -rf "$root"
	debootstrap --variant=minbase bullseye "$root" "$mirror"
	touch "$root/.complete"
fi
root=$(realpath "$root")
arch=$(dpkg --print-architecture)

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tar -C "$tmp" --strip-components=1 -xzf "$dist"/out_kinesis_agg-*-linux-"$arch".tar.gz

# The C compiler that test/e2e builds the ABI host with: the host in the file is
# one that starts itself in the root.
cat >"$tmp/cc" <<CC
#!/bin/sh
set -e
"$zig" cc -target $(uname -m)-linux-gnu.2.17 "\$@"
out=
previous=
for word; do
	[ "\$previous" != -o ] || out=\$word
	previous=\$word
done
mv "\$out" "\$out.old"
printf '#!/bin/sh\nexec chroot "%s" "%s" "\$@"\n' "$root" "\$out.old" >"\$out"
chmod +x "\$out"
CC
chmod +x "$tmp/cc"

go test -c -o "$tmp/e2e.test" ./test/e2e
DEB=$(echo "$dist"/*_"$arch".deb)
export TMP_DIR="$tmp" ROOT="$root" DEB
# Mounts end with the namespace. /tmp is the same in the root, so that chunk
# files have the same paths; tests with the engine or with other compilers do not
# run in the root and are left out. Tests that measure memory and threads run one
# at a time.
# shellcheck disable=SC2016 # the inner shell expands the variables
unshare --mount sh -euc '
	mount --bind /tmp "$ROOT/tmp"
	mount --bind /dev "$ROOT/dev"
	mount -t proc proc "$ROOT/proc"
	chroot "$ROOT" ldd --version | sed -n 1p
	(cd test/e2e && CC="$TMP_DIR/cc" OUT_KINESIS_AGG_SO="$TMP_DIR/out_kinesis_agg.so" FLUENT_BIT=/nonexistent \
		sh -euc "
			measured=\"TestTags_Many|TestLibrary_LoadedRepeatedly\"
			\"\$TMP_DIR/e2e.test\" -test.skip \"Sanitiz|FluentBit|TestOutages/DNS_fails|\$measured\" -test.timeout 15m
			\"\$TMP_DIR/e2e.test\" -test.run \"\$measured\" -test.parallel 1 -test.timeout 15m
		")

	cp "$DEB" "$TMP_DIR/package.deb"
	chroot "$ROOT" dpkg --install "$TMP_DIR/package.deb"
	chroot "$ROOT" kplcat --version
	chroot "$ROOT" sh -euc "
		test \"\$(stat -c %a /var/lib/fluent-bit)\" = 700
		grep -q /usr/lib/fluent-bit/out_kinesis_agg.so /etc/fluent-bit/kinesis_agg/plugins.conf
		! grep -rn \"[^b]/fluent-bit/storage\" /etc/fluent-bit/kinesis_agg
	"
	chroot "$ROOT" dpkg --purge fluent-bit-kinesis-agg
	test ! -e "$ROOT/usr/lib/fluent-bit/out_kinesis_agg.so"
'
echo "portable: the library of the release runs with glibc 2.31"
