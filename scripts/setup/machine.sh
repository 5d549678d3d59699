#!/bin/bash
# Puts the tree of a Debian of another release below build/machines, with what every Debian has and nothing else: the
# other machine of the tests (test/support/other-machine.ts). From the archive that this machine's apt trusts. Safe to run
# again.
#
# usage: machine.sh     (as root)
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/setup/criu.sh
. "$(dirname "${BASH_SOURCE[0]}")/criu.sh"
# shellcheck source=scripts/setup/bootstrap.sh
. "$(dirname "${BASH_SOURCE[0]}")/bootstrap.sh"

# Older than what Torpor itself needs, so that nothing of the machine's own libraries will do; otherwise newer.
RELEASES=(bullseye trixie)
MACHINES=$TORPOR_BUILD/machines
LOG=$TORPOR_BUILD/machine.log

make_machine() {
  local release
  trap 'rm -rf --one-file-system "$WORK" "$MACHINES/new"' EXIT
  mkdir -p "$MACHINES"
  : >"$LOG"
  prepare_bootstrap 'the other machine'
  for release in "${RELEASES[@]}"; do
    say "making a machine of the release \"$release\" for the tests"
    bootstrap "$release" "$MACHINES/new" || continue
    mv -T "$MACHINES/new" "$MACHINES/$release"
    return
  done
  tail -n 15 "$LOG" >&2
  fail 'the other machine' "none of the releases ${RELEASES[*]} can be had from this machine's package sources" \
    "see the lines above; check the network and run this again (full output: $LOG)"
}

[ "$(id -u)" = 0 ] || fail 'the other machine' 'this needs root' 'run it with sudo'
take_lock machine
for release in "${RELEASES[@]}"; do
  if [ -d "$MACHINES/$release" ]; then exit; fi
done
make_machine
