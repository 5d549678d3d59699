#!/bin/bash
# Damages what the page store's program parses, for some seconds, under sanitizers. Usage: pages.sh BUILD-FOLDER
set -uo pipefail

bin=$1
# In memory: each round syncs some twenty files.
work=$(mktemp -d /dev/shm/torpor-pages-XXXXXX)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=print_stacktrace=1
status=0
"$bin/asan/pages-fuzz" "$work" "${ROUNDS:-60}" || status=1
"$bin/asan/import-fuzz" "$(dirname "$0")/../../test/fuzz/chunk-stream" "${CHANGES:-20000}" || status=1
exit "$status"
