#!/bin/bash
# Runs every test of a checkout that is set up: format, lint and types; the shell scripts; the native programs' own
# tests; vitest. All run whatever the others say, so that one run shows all that is wrong. Test files that failed run once
# more, if they are few, and what passed only then is named. Ends with the line "N passed, N failed" and exits 1 if
# anything failed or nothing ran.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RESULTS=test-results
REAPER=$PWD/build/native/test/reaper
# With more than that something is broken, and not only unlucky.
AGAIN_AT_MOST=5
passed=0
failed=0

# count WHAT STATUS: one passed or failed test for a step that does not count its own.
count() {
  if [ "$2" = 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'test: %s failed\n' "$1" >&2
  fi
}

heading() { printf '\n== %s\n' "$*"; }

# vitest_run REPORT [FILE...]: all tests, or those of some files. Processes that have ended and lost their parent are not
# left to the machine's init, which may reap them seconds later: a sixth of the time was spent waiting for that.
vitest_run() {
  local report=$1
  shift
  "$REAPER" npx vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@"
}

mkdir -p "$RESULTS"
rm -f "$RESULTS"/vitest*.json

heading 'format, lint and types'
status=0
npm run --silent check || status=$?
count 'npm run check' "$status"

heading 'shell scripts'
status=0
shellcheck --external-sources bin/torpor .ci/run scripts/*.sh scripts/setup/*.sh packaging/portable/* test/fixtures/*.sh test/fixtures/vm/*.sh || status=$?
count shellcheck "$status"

heading 'native programs'
status=0
make --no-print-directory -C native testing test OUT="$PWD/build/native" || status=$?
count 'make -C native test' "$status"

heading 'vitest'
reports=("$RESULTS/vitest.json")
status=0
vitest_run "${reports[0]}" || status=$?
mapfile -t again < <(npx tsx scripts/test-report.ts failed "${reports[0]}")
if [ "$status" != 0 ] && [ "${#again[@]}" -gt 0 ] && [ "${#again[@]}" -le "$AGAIN_AT_MOST" ]; then
  heading 'vitest: what failed, once more'
  reports+=("$RESULTS/vitest-again.json")
  status=0
  vitest_run "${reports[1]}" "${again[@]}" || status=$?
fi
read -r tests_passed tests_failed < <(npx tsx scripts/test-report.ts count "${reports[@]}")
# vitest also fails for reasons that no test carries, such as an error thrown between tests.
if [ "$status" != 0 ] && [ "$tests_failed" = 0 ]; then tests_failed=1; fi
if [ "$tests_passed" = 0 ] && [ "$tests_failed" = 0 ]; then
  printf 'test: vitest ran no test\n' >&2
  tests_failed=1
fi
passed=$((passed + tests_passed))
failed=$((failed + tests_failed))

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
