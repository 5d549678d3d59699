#!/bin/bash
# Unpacks two of Debian's kernels with their modules below build/kernels, as build/kernels/SERIES: the virtual machines of
# the tests boot them (test/support/virtual-machine.ts), and go from one to the other. Safe to run again.
#
# usage: kernel.sh
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/setup/criu.sh
. "$(dirname "${BASH_SOURCE[0]}")/criu.sh"

KERNELS=$TORPOR_BUILD/kernels
# The one for virtual machines: it finds its disks without help.
NEWEST=linux-image-cloud-amd64
# Where each series is to be had, the best place first. By name: a kernel of another series would be no test.
declare -A PLACES=([6.1]='bookworm' [6.12]='bookworm-backports trixie')

# Finds the package of series $1; sets PACKAGE and leaves private_apt pointing to where it is.
choose_kernel() {
  local suite source
  for suite in ${PLACES[$1]}; do
    for source in "$WORK"/sources/*.sources; do
      sed "s|@SUITE@|$suite|" "$source" >"$WORK/newer.sources"
      private_apt apt-get update >>"$WORK/log" 2>&1 || continue
      PACKAGE=$(private_apt apt-cache depends "$NEWEST" 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
      case $PACKAGE in "linux-image-$1."*) return ;; esac
    done
  done
  tail -n 15 "$WORK/log" >&2
  fail "the kernel $1 for the tests" "none of the suites ${PLACES[$1]} of this machine's package sources has one" \
    "see apt's lines above; check the network and run this again"
}

unpack_kernel() {
  local series=$1 stage=$KERNELS/new
  choose_kernel "$series"
  say "unpacking $PACKAGE for the tests"
  rm -rf "$WORK/tree" "$stage"
  take_packages "$PACKAGE"
  mkdir -p "$stage/lib"
  mv "$WORK"/tree/boot "$stage"
  # Debian's package has them below /usr from release 13 on.
  mv "$(find "$WORK/tree" -path '*lib/modules' -prune)" "$stage/lib"
  rm "$stage"/boot/System.map-*
  mv -T "$stage" "$KERNELS/$series"
}

main() {
  local series missing=()
  take_lock kernel
  for series in "${!PLACES[@]}"; do
    if [ ! -d "$KERNELS/$series" ]; then missing+=("$series"); fi
  done
  if [ "${#missing[@]}" = 0 ]; then return; fi
  WORK=$(mktemp -d -p /var/tmp torpor-kernel.XXXXXX)
  trap 'rm -rf "$WORK" "$KERNELS/new"' EXIT
  chmod 755 "$WORK"
  mkdir -p "$KERNELS" "$WORK"/{sources,lists/partial,cache/archives/partial}
  : >"$WORK/status"
  write_candidate_sources "$WORK/sources" ||
    fail 'the kernels for the tests' 'apt has no package source with a "main" component on this machine' \
      "add your distribution's archive to apt's sources"
  for series in "${missing[@]}"; do unpack_kernel "$series"; done
}

main "$@"
