#!/bin/sh
# Prints the version of this source, or with --date the time of its commit in
# seconds since 1970:
#
#   VERSION            if it is set, such as 1.2.3
#   the git tag vX.Y.Z of the checked out commit, if no file is changed
#   the tag in archive.txt, in an archive made by git archive
#   0.0.0-dev          otherwise
#
# SOURCE_DATE_EPOCH, if set, is the time.
#
# A checkout that cannot be read, because git is missing or because git refuses a
# checkout of another user, has version 0.0.0-dev, with a line on standard error.
# With --release, that is an error.
set -eu
cd "$(dirname "$0")"

fail() {
	echo "version: $*" >&2
	exit 1
}

# from_archive KEY prints a value of archive.txt that git archive has filled in.
from_archive() { sed -n "s/^$1=\([^\$].*\)/\1/p" archive.txt; }

want_date='' release=''
for argument; do
	case $argument in
	--date) want_date=1 ;;
	--release) release=1 ;;
	*) fail "unknown argument $argument" ;;
	esac
done

# unreadable REASON is called if the checkout cannot be read.
unreadable() {
	if [ -n "${VERSION:-}" ] && [ -n "${SOURCE_DATE_EPOCH:-}" ]; then return; fi
	[ -z "$release" ] || fail "$1: fix it, or set VERSION and SOURCE_DATE_EPOCH"
	[ -n "${VERSION:-}" ] || echo "version: $1: building version 0.0.0-dev" >&2
}

root=../..
tag='' date=''
if [ -e $root/.git ]; then
	if ! command -v git >/dev/null; then
		unreadable "git is not installed"
	elif ! date=$(git log -1 --format=%ct 2>&1); then
		# The first line of the message has the reason.
		unreadable "git cannot read this checkout ($(echo "$date" | head -n 1))"
		date=
	else
		# Fails if the commit has no tag.
		tag=$(git describe --tags --exact-match --match 'v[0-9]*' --dirty 2>/dev/null) || tag=
	fi
else
	date=$(from_archive date)
	# "v1.2.3-4-gabcdef0" is 4 commits after v1.2.3.
	tag=$(from_archive tag | sed '/-[0-9][0-9]*-g[0-9a-f]*$/d')
fi

if [ -n "$want_date" ]; then
	# The first moment that a zip archive can store, if the time is not known.
	date=${SOURCE_DATE_EPOCH:-${date:-315532800}}
	case $date in
	*[!0-9]*) fail "SOURCE_DATE_EPOCH=$date is not a number of seconds" ;;
	esac
	echo "$date"
	exit
fi

case $tag in
*-dirty) tag= ;;
esac
version=${VERSION:-${tag#v}}
version=${version:-0.0.0-dev}
# It becomes a part of file names, of the user agent, and of the versions of
# packages, which allow few characters.
valid=1
case $version in
*[!0-9A-Za-z.-]*) valid= ;; # also a line break, which grep does not see
esac
echo "$version" | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?' || valid=
[ -n "$valid" ] || fail "\"$version\" is not a version such as 1.2.3 or 1.2.3-rc.1 (from VERSION or the git tag)"
echo "$version"
