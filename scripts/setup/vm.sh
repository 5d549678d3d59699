#!/bin/bash
# Puts the tree of a Debian 12 with systemd, two kernels and what Torpor's package depends on below build/vm: the machine
# that the tests boot to go from one kernel to another (test/vm/machine.ts). Made again when what belongs in it changes;
# otherwise a second run does nothing. After kernel.sh.
#
# usage: vm.sh     (as root)
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/setup/criu.sh
. "$(dirname "${BASH_SOURCE[0]}")/criu.sh"
# shellcheck source=scripts/setup/bootstrap.sh
. "$(dirname "${BASH_SOURCE[0]}")/bootstrap.sh"

RELEASE=bookworm
TREE=$TORPOR_BUILD/vm/root
KERNELS=$TORPOR_BUILD/kernels
LOG=$TORPOR_BUILD/vm.log
PACKAGES=(
  systemd systemd-sysv dbus dbus-user-session libpam-systemd polkitd login udev kmod # as every desktop has them
  kexec-tools procps
  xterm xdotool xfonts-base fonts-dejavu-core # the tests' applications
)

# What the package depends on, one a line.
dependencies() {
  python3 -c 'import sys, yaml; print(*yaml.safe_load(open(sys.argv[1]))["deb"]["depends"], sep="\n")' \
    "$TORPOR_ROOT/electron-builder.yml"
}

make_tree() {
  local stage=$TREE.new packages kernel version
  mapfile -t packages < <(dependencies)
  packages+=("${PACKAGES[@]}")
  trap 'rm -rf --one-file-system "$WORK" "$TREE.new"' EXIT
  mkdir -p "${TREE%/*}"
  : >"$LOG"
  prepare_bootstrap 'the virtual machine'
  say "making a virtual machine of the release \"$RELEASE\" for the tests"
  bootstrap "$RELEASE" "$stage" --include="$(IFS=,; printf '%s' "${packages[*]}")" || {
    tail -n 15 "$LOG" >&2
    fail 'the virtual machine' "the release \"$RELEASE\" cannot be had from this machine's package sources" \
      "see the lines above; check the network and run this again (full output: $LOG)"
  }
  for kernel in "$KERNELS"/*; do
    cp -a "$kernel/boot/." "$stage/boot"
    cp -a "$kernel/lib/modules" "$stage/usr/lib"
  done
  for version in "$stage"/usr/lib/modules/*; do chroot "$stage" depmod "${version##*/}"; done
  printf '%s\n' "$1" >"$TREE.stamp.new"
  rm -rf --one-file-system "$TREE"
  mv -T "$stage" "$TREE"
  mv "$TREE.stamp.new" "$TREE.stamp"
}

main() {
  local want
  [ "$(id -u)" = 0 ] || fail 'the virtual machine' 'this needs root' 'run it with sudo'
  take_lock vm
  want=$({
    dependencies
    ls "$KERNELS"/*/boot
    cat "${BASH_SOURCE[0]}"
  } | sha256sum)
  if [ -d "$TREE" ] && [ "$(cat "$TREE.stamp" 2>/dev/null)" = "$want" ]; then return; fi
  make_tree "$want"
}

main "$@"
