#!/bin/bash
# Runs every test of a checkout that is set up: format, lint and types; the shell scripts; the native programs' own
# tests; vitest. All run whatever the others say, so that one run shows all that is wrong. Ends with the line
# "N passed, N failed" and exits 1 if anything failed or nothing ran.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RESULTS=test-results
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

# Prints "PASSED FAILED" of vitest's JSON report $1. A file that could not even be loaded has no tests and counts as
# one failure; so does a report that is missing or cut short.
vitest_counts() {
  # shellcheck disable=SC2016 # The ${} is JavaScript's.
  node -e '
    try {
      const files = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8")).testResults;
      const tests = files.flatMap((file) => file.assertionResults.map((test) => test.status));
      const unloaded = files.filter((f) => f.status === "failed" && f.assertionResults.every((t) => t.status !== "failed"));
      const of = (status) => tests.filter((each) => each === status).length;
      console.log(of("passed"), of("failed") + unloaded.length);
    } catch (error) {
      console.error(`test: vitest left no readable report: ${error.message}`);
      console.log(0, 1);
    }
  ' "$1"
}

mkdir -p "$RESULTS"
rm -f "$RESULTS/vitest.json"

heading 'format, lint and types'
status=0
npm run --silent check || status=$?
count 'npm run check' "$status"

heading 'shell scripts'
status=0
shellcheck --external-sources bin/torpor .ci/run scripts/*.sh scripts/setup/*.sh || status=$?
count shellcheck "$status"

heading 'native programs'
status=0
make --no-print-directory -C native test OUT="$PWD/build/native" || status=$?
count 'make -C native test' "$status"

heading 'vitest'
status=0
npx vitest run --reporter=default --reporter=json --outputFile.json="$RESULTS/vitest.json" || status=$?
read -r tests_passed tests_failed < <(vitest_counts "$RESULTS/vitest.json")
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
