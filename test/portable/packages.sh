#!/bin/sh
# Installs and removes the packages of a release: the .deb in Debian roots, the .rpm in
# an empty root, and checks the files, what they need, and that nothing is left.
#
#   packages.sh DIST FOLDER [RELEASE...]
#
# DIST has the files of `make dist`. FOLDER keeps a root for each release of Debian
# (default: bullseye bookworm trixie), which debootstrap creates if it does not exist:
# 300 MB and 2 minutes each. Needs root, debootstrap and rpm.
set -eu
dist=$(realpath "$1")
mkdir -p "$2"
roots=$(realpath "$2")
shift 2
[ $# -gt 0 ] || set -- bullseye bookworm trixie
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
[ "$(id -u)" -eq 0 ] || { echo "packages: this needs root, for chroot" >&2; exit 1; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "packages: $*" >&2; exit 1; }
# files ROOT lists a root, without what package managers keep.
files() {
	(cd "$1" && find . \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./tmp -o -path ./var/lib/dpkg -o -path ./var/lib/rpm \
		-o -path ./var/log -o -path ./run \) -prune -o -print) | sort
}
# installed ROOT checks what users find.
installed() {
	[ "$(stat -c %a "$1/var/lib/fluent-bit")" = 700 ] || fail "/var/lib/fluent-bit is open to others"
	for file in usr/lib/fluent-bit/out_kinesis_agg.so usr/bin/kplcat etc/fluent-bit/kinesis_agg/plugins.conf; do
		[ -f "$1/$file" ] || fail "$file is missing"
	done
	grep -q /usr/lib/fluent-bit/out_kinesis_agg.so "$1/etc/fluent-bit/kinesis_agg/plugins.conf" || fail "plugins.conf names another library"
}

arch=$(dpkg --print-architecture)
for release; do
	root=$roots/$release
	if [ ! -e "$root/.complete" ]; then
		rm -rf "$root"
		debootstrap --variant=minbase "$release" "$root" "$mirror"
		touch "$root/.complete"
	fi
	files "$root" >"$tmp/before"
	cp "$dist"/*_"$arch".deb "$root/tmp/package.deb"
	chroot "$root" dpkg --install /tmp/package.deb >/dev/null
	rm "$root/tmp/package.deb"
	installed "$root"
	chroot "$root" kplcat --version
	chroot "$root" dpkg --purge fluent-bit-kinesis-agg >/dev/null
	files "$root" | diff "$tmp/before" - || fail "the .deb leaves these files in Debian $release"
	echo "packages: the .deb is installed and removed in Debian $release"
done

# What Fluent Bit's own packages need too: the C library.
for package in "$dist"/*.rpm; do
	rpm --query --requires --package "$package" 2>/dev/null | grep -v '^rpmlib(\|^glibc >= 2\.17$\|^config(fluent-bit-kinesis-agg)' &&
		fail "$package needs more than the C library"
	[ -z "$(rpm --query --scripts --package "$package" 2>/dev/null)" ] || fail "$package has scripts"
	root=$tmp/rpm
	rm -rf "$root"
	mkdir "$root"
	rpm --root "$root" --initdb
	files "$root" >"$tmp/before"
	# The root has no C library.
	rpm --root "$root" --install --nodeps --ignorearch "$package" 2>/dev/null || fail "$package is not installed"
	rpm --root "$root" --verify --nodeps fluent-bit-kinesis-agg || fail "$package installs other files than it lists"
	installed "$root"
	rpm --root "$root" --erase fluent-bit-kinesis-agg
	# The folders of the system, such as /usr/bin, are those of other packages.
	(cd "$root" && find . \( -path ./var/lib/rpm -o -path ./root \) -prune -o ! -type d -print -o -name "*fluent-bit*" -print -o -name "*kinesis*" -print) | grep . &&
		fail "$package leaves these files"
	echo "packages: $(basename "$package") is installed and removed in an empty root"
done
for package in "$dist"/*.deb; do
	[ "$(dpkg-deb --field "$package" Depends)" = "libc6 (>= 2.17)" ] || fail "$package needs more than the C library"
	dpkg-deb --ctrl-tarfile "$package" | tar -t | grep inst && fail "$package has scripts"
	true
done
