#!/bin/bash
# Unpacks one of Debian's kernels with its modules below build/kernel: the virtual machine of the tests boots it
# (test/support/virtual-machine.ts). Safe to run again.
#
# usage: kernel.sh
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PREFIX=$TORPOR_BUILD/kernel
LOG=$TORPOR_BUILD/kernel.log
# The one for virtual machines: it finds its disks without help.
NEWEST=linux-image-cloud-amd64

main() {
  local stage=$PREFIX.new package version
  take_lock kernel
  if [ -d "$PREFIX" ]; then exit; fi
  package=$(apt-cache depends "$NEWEST" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [ -n "$package" ] || fail 'the kernel for the tests' "apt knows no package $NEWEST" 'run apt-get update'
  say "unpacking $package for the tests"
  rm -rf "$stage"
  mkdir -p "$stage"
  (cd "$stage" && apt-get download -q "$package" >"$LOG" 2>&1) ||
    fail "the download of $package" "$(tail -n 1 "$LOG")" 'check the network and run this again'
  dpkg-deb -x "$stage"/*.deb "$stage"
  rm "$stage"/*.deb
  version=$(basename "$stage"/lib/modules/*)
  busybox depmod -b "$stage" "$version" >>"$LOG" 2>&1 ||
    fail "the index of the modules of $package" "$(tail -n 1 "$LOG")" 'report this'
  mv "$stage/boot/vmlinuz-$version" "$stage/vmlinuz"
  rm -r "${stage:?}"/{boot,usr}
  mv -T "$stage" "$PREFIX"
}

main "$@"
