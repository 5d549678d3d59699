# shellcheck shell=bash
# What the set-up scripts share: how they speak, how they fail, and the lock that keeps two set-ups of one
# checkout apart. Sourced, never run; expects `set -euo pipefail`.

TORPOR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
TORPOR_BUILD=$TORPOR_ROOT/build

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

# Waits for the checkout's set-up lock and holds it until the script ends. Scripts started by the holder inherit the
# open descriptor and its number in TORPOR_SETUP_LOCK_FD, and go straight on. The descriptor is checked, not only
# the variable: an environment can be copied, an open lock cannot.
take_setup_lock() {
  mkdir -p "$TORPOR_BUILD"
  local file=$TORPOR_BUILD/.setup.lock fd=${TORPOR_SETUP_LOCK_FD:-}
  if [ -n "$fd" ] && [ "/proc/$$/fd/$fd" -ef "$file" ]; then return; fi
  exec {fd}>>"$file"
  if ! flock --nonblock "$fd"; then
    say 'another set-up of this checkout is at work; waiting for it'
    flock "$fd"
  fi
  export TORPOR_SETUP_LOCK_FD=$fd
}
