#!/bin/sh
# Fuzzes one target: fuzz.sh PACKAGE TARGET TIME.
#
# Go before 1.27 sometimes ends with "context deadline exceeded" when the time is
# up (golang.org/issue/75804). Nothing failed then: a failing input is always
# written to a file, and its name is printed.
set -eu

echo "$1 $2"
status=0
output=$(go test -run '^$' -fuzz "^$2\$" -parallel 1 -fuzzminimizetime 2s -fuzztime "$3" "$1" 2>&1) || status=$?
printf '%s\n' "$output"
[ "$status" -ne 0 ] || exit 0
if printf '%s\n' "$output" | grep -qE 'Failing input|panic:|^ +[a-z_]+\.go:[0-9]+'; then
	exit "$status"
fi
printf '%s\n' "$output" | grep -qx ' *context deadline exceeded' || exit "$status"
echo "$2: the time was up, and no input failed"
