#!/bin/bash
# Unpacks Debian packages below build/sound, privately: libpulse's headers, which the relay is built with, and for the
# tests sound servers and their tools. Installed, the headers would bring GLib's whole development set, and a sound server
# would start in every session of this machine (docs/decisions/0014-sound.md). Safe to run again.
#
# usage: sound.sh headers|servers
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PREFIX=$TORPOR_BUILD/sound
SERVERS=(pulseaudio pulseaudio-utils pipewire-bin pipewire-pulse libpipewire-0.3-modules libspa-0.2-modules wireplumber)

# The packages of $@ with all that they need and this machine does not have. What is installed stays as it is; these
# themselves are unpacked all the same, since the tests look for their parts below build/sound alone.
with_missing() {
  {
    printf '%s\n' "$@"
    apt-get install -s --no-install-recommends "$@" | awk '/^Inst / && $3 !~ /^\[/ { print $2 }'
  } | sort -u
}

# unpack WHAT PACKAGE...: fetches the packages and puts them into the prefix.
unpack() {
  local what=$1 stage=$PREFIX.new file
  shift
  say "unpacking $# Debian packages for sound ($what)"
  rm -rf "$stage"
  mkdir -p "$stage"
  (cd "$stage" && apt-get download -q "$@" >>"$TORPOR_BUILD/sound.log" 2>&1) ||
    fail "the download of $*" "$(tail -n 1 "$TORPOR_BUILD/sound.log")" 'check the network and run this again'
  mkdir -p "$PREFIX"
  for file in "$stage"/*.deb; do dpkg-deb -x "$file" "$PREFIX"; done
  rm -rf "$stage"
}

main() {
  take_lock sound
  case ${1:-} in
    headers)
      if [ -e "$PREFIX/usr/include/pulse/pulseaudio.h" ] || [ -e /usr/include/pulse/pulseaudio.h ]; then return; fi
      unpack headers libpulse-dev
      ;;
    servers)
      if [ -e "$PREFIX/.servers" ]; then return; fi
      local packages
      mapfile -t packages < <(with_missing "${SERVERS[@]}")
      unpack servers "${packages[@]}"
      touch "$PREFIX/.servers"
      ;;
    *)
      printf 'usage: sound.sh headers|servers\n' >&2
      exit 2
      ;;
  esac
}

main "$@"
