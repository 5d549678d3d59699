# shellcheck shell=bash
# What the set-up scripts share: how they speak, how they fail, and the lock that keeps two set-ups of one
# checkout apart. Sourced, never run; expects `set -euo pipefail`.

TORPOR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
TORPOR_BUILD=$TORPOR_ROOT/build

# apt, readelf and others translate what these scripts read; and apt's own user must reach what they make.
export LC_ALL=C
umask 022

# Says one line of progress, on standard error: standard output belongs to whoever called.
say() { printf 'setup: %s\n' "$*" >&2; }

# fail STEP REASON NEXT: names the step that failed, why, and what to do next, and ends the script with 1.
fail() {
  printf 'setup: %s failed: %s\n       Next: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

# Whether dotted version $1 is at least $2 (4.10 is newer than 4.9; a missing part counts as older).
version_at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# take_lock NAME: waits for the lock file build/NAME.lock and holds it until the script ends. What is started meanwhile
# and may leave a daemon behind (a package's installation does) is started with `{LOCK_FD}>&-`.
take_lock() {
  mkdir -p "$TORPOR_BUILD"
  exec {LOCK_FD}>>"$TORPOR_BUILD/$1.lock"
  if ! flock --nonblock "$LOCK_FD"; then
    say "another run of the same step ($1) is at work in this checkout; waiting for it"
    flock "$LOCK_FD"
  fi
}

# Ends with a sentence unless $1 (an os-release file) describes Debian 12 or later. Debian's testing and unstable
# carry no VERSION_ID; both are newer.
require_debian() {
  local ID='' VERSION_ID='' PRETTY_NAME='an unknown system'
  # shellcheck source=/dev/null
  if [ -r "$1" ]; then . "$1"; fi
  if [ "$ID" = debian ] && version_at_least "${VERSION_ID:-12}" 12; then return; fi
  fail 'the check of the system' "Torpor needs Debian 12 or later, and this is $PRETTY_NAME" \
    'use a machine, a virtual machine or a container with Debian 12 or later'
}

# Ends with a sentence unless `node --version` printed $1 (as in "v20.1.0") of Node 20 or later.
require_node() {
  local next='install Node 20 or later, with npm, from where you usually take it; this script never touches Node'
  [ -n "$1" ] || fail 'the check of Node' 'there is no working "node" in PATH' "$next"
  version_at_least "${1#v}" 20 || fail 'the check of Node' "Torpor needs Node 20 or later, and this is $1" "$next"
}
