#!/bin/bash
# Makes a fresh Debian 12 (or later) machine with Node 20 (or later) ready to run Torpor from this checkout: Debian
# packages, CRIU, node modules, native programs, bundles. Safe to run again: each step first looks whether there is
# anything to do, so that a second run takes seconds. Only apt and CRIU need root; where the caller is not root, those
# two go through sudo and everything else stays the caller's.
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"
# shellcheck source=scripts/setup/packages.sh
. "$TORPOR_ROOT/scripts/setup/packages.sh"

LOG=$TORPOR_BUILD/setup.log

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--tests] [--all-apps]

  --tests      also install the applications that the tests use
  --all-apps   also install every application that `npm run test:apps` uses

Needs Debian 12 or later and Node 20 or later with npm; works as root or with sudo.
TEXT
}

# Passes a long output's beginning and end on: npm names the cause first, apt and make last.
both_ends() { awk '{ line[NR] = $0 }
  END { for (i = 1; i <= NR; i++) if (i <= 10 || i > NR - 15) print "  | " line[i]; else if (i == 11) print "  | ..." }'; }

# logged STEP NEXT COMMAND...: runs the command with its output in the log only; on failure shows both ends of it.
logged() {
  local step=$1 next=$2
  shift 2
  printf '== %s: %s\n' "$(date -Is)" "$*" >>"$LOG"
  local start
  start=$(wc -c <"$LOG")
  if "$@" >>"$LOG" 2>&1 {LOCK_FD}>&-; then return; fi
  tail -c "+$((start + 1))" "$LOG" | both_ends >&2
  fail "$step" 'see the lines above' "$next (full output: $LOG)"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

require_root_or_sudo() {
  if [ "$(id -u)" = 0 ]; then return; fi
  command -v sudo >/dev/null ||
    fail 'the check of rights' 'this is not root, and sudo is not installed' 'run this as root'
  sudo -v || fail 'the check of rights' 'sudo was refused' 'run this as root'
}

# --no-remove: no package of the machine (its Node least of all) may make way for ours.
apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --no-remove \
    -o DPkg::Lock::Timeout=900 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    -o Acquire::Retries=3 "$@"
}

# Refreshes apt's lists. DPkg::Lock::Timeout does not cover the lock of the lists, so that is waited for here. A source
# that cannot be reached may not matter: the install that follows decides.
refresh_lists() {
  local try said=no
  for try in $(seq 180); do
    if apt update >"$LOG.update" 2>&1; then break; fi
    if ! grep -q 'Could not get lock' "$LOG.update" || [ "$try" = 180 ]; then
      say 'warning: apt could not refresh all its lists; going on with what it has'
      break
    fi
    if [ "$said" = no ]; then
      say 'another program is using apt; waiting for it'
      said=yes
    fi
    sleep 5
  done
  cat "$LOG.update" >>"$LOG"
  rm -f "$LOG.update"
}

# Installs those of the named packages that are not installed.
install_packages() {
  local missing=() package
  declare -A status=()
  while read -r package state; do status[$package]=$state; done < <(
    # Package, not its architecture-qualified name: a foreign architecture's copy does not count.
    dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true
  )
  for package in "$@"; do
    [ "${status[$package]:-}" = installed ] || missing+=("$package")
  done
  if [ "${#missing[@]}" = 0 ]; then return; fi
  require_root_or_sudo
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  refresh_lists
  logged 'the installation of Debian packages' \
    "mend what apt names, or install them yourself: apt-get install ${missing[*]}" apt install "${missing[@]}"
}

# Whether build/criu needs no attention can only be asked as root: `criu check` needs its rights.
install_criu() {
  require_root_or_sudo
  as_root bash "$TORPOR_ROOT/scripts/setup/criu.sh" || exit 1
}

# Runs npm ci unless node_modules was made from this very lock file by this Node's major version.
install_modules() {
  local stamp=node_modules/.torpor-stamp want
  want="$(sha256sum <package-lock.json) $(node -p 'process.versions.modules')"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
  say 'installing node modules'
  logged 'npm ci' 'check the network and the settings of npm, and run this again' \
    npm ci --no-audit --no-fund
  printf '%s\n' "$want" >"$stamp"
}

main() {
  local packages=("${PACKAGES_BASE[@]}") option tests=no
  for option in "$@"; do
    case $option in
      --tests)
        tests=yes
        packages+=("${PACKAGES_TESTS[@]}")
        ;;
      --all-apps)
        tests=yes
        packages+=("${PACKAGES_TESTS[@]}" "${PACKAGES_ALL_APPS[@]}")
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      *)
        printf 'setup: unknown option "%s"\n' "$option" >&2
        usage >&2
        exit 2
        ;;
    esac
  done

  require_debian /etc/os-release
  require_node "$(node --version 2>/dev/null || true)"
  command -v npm >/dev/null ||
    fail 'the check of Node' 'there is no "npm" in PATH' 'install npm beside Node; this script never touches Node'
  cd "$TORPOR_ROOT"
  take_lock setup
  : >"$LOG"
  install_packages "${packages[@]}"
  install_criu
  logged 'the unpacking of libpulse' 'check the network and run this again' \
    bash "$TORPOR_ROOT/scripts/setup/sound.sh" headers
  if [ "$tests" = yes ]; then
    logged 'the unpacking of sound servers' 'check the network and run this again' \
      bash "$TORPOR_ROOT/scripts/setup/sound.sh" servers
    logged 'the making of the other machine' 'check the network and run this again' \
      as_root bash "$TORPOR_ROOT/scripts/setup/machine.sh"
    logged 'the unpacking of kernels' 'check the network and run this again' \
      bash "$TORPOR_ROOT/scripts/setup/kernel.sh"
    logged 'the making of the virtual machine' 'check the network and run this again' \
      as_root bash "$TORPOR_ROOT/scripts/setup/vm.sh"
  fi
  install_modules
  logged 'the native build' 'report this with the lines above' \
    make --no-print-directory -C native OUT="$TORPOR_BUILD/native"
  logged 'npm run build' 'report this with the lines above' npm run --silent build
  say "done in $SECONDS s: Torpor is ready in $TORPOR_ROOT (try: bin/torpor --help)"
}

main "$@"
