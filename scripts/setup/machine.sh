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

# Older than what Torpor itself needs, so that nothing of the machine's own libraries will do; otherwise newer.
RELEASES=(bullseye trixie)
MACHINES=$TORPOR_BUILD/machines
LOG=$TORPOR_BUILD/machine.log

# The value of a field of a source ($2) in the deb822 file $1; an inline key block keeps its lines.
field_of() { awk -v name="$2: " 'index($0, name) == 1 { on = 1; print substr($0, length(name) + 1); next }
  /^ / { if (on) print substr($0, 2); next } { on = 0 }' "$1"; }

# Prints the path of a key ring for the source $1: its own, or that of all sources.
keyring_of() {
  local key
  key=$(field_of "$1" Signed-By)
  case $key in
    /*) printf '%s\n' "${key%% *}" ;;
    *BEGIN*)
      # Without its armour, as gpgv wants it: the lines between the first that is empty and the sum.
      awk '/^=/ { exit } on { print } /^\.?$/ { on = 1 }' <<<"${key#*BEGIN}" | base64 -d >"$WORK/key.gpg"
      printf '%s\n' "$WORK/key.gpg"
      ;;
    *) printf '%s\n' /usr/share/keyrings/debian-archive-keyring.gpg ;;
  esac
}

# Makes the tree of release $1 in folder $2 from the archive of source $3.
bootstrap() {
  local address
  address=$(field_of "$3" URIs)
  case $address in
    mirror+file:*) address=$(awk '/^https?:/ { print $1; exit }' "${address#mirror+file:}") ;;
  esac
  rm -rf --one-file-system "$2"
  # Mounts of its own, so that none of them is left however it ends.
  unshare --mount debootstrap --variant=minbase --keyring="$(keyring_of "$3")" "$1" "$2" "${address%% *}" \
    >>"$LOG" 2>&1 {LOCK_FD}>&-
}

make_machine() {
  local release source stage
  WORK=$(mktemp -d -p /var/tmp torpor-machine.XXXXXX)
  stage=$MACHINES/new
  trap 'rm -rf --one-file-system "$WORK" "$MACHINES/new"' EXIT
  mkdir -p "$WORK/sources" "$MACHINES"
  : >"$LOG"
  write_candidate_sources "$WORK/sources" ||
    fail 'the other machine' 'apt has no package source with a "main" component on this machine' \
      "add your distribution's archive to apt's sources"
  # debootstrap fetches by itself, and knows nothing of apt's settings.
  eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
  export http_proxy https_proxy
  for release in "${RELEASES[@]}"; do
    for source in "$WORK"/sources/1-*.sources; do
      say "making a machine of the release \"$release\" for the tests"
      bootstrap "$release" "$stage" "$source" || continue
      # What nobody reads there, and is two thirds of it.
      rm -rf "$stage"/var/cache/apt/* "$stage"/var/lib/apt/lists/* "$stage"/usr/share/{doc,locale,man}/*
      mv -T "$stage" "$MACHINES/$release"
      return
    done
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
