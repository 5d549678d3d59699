# shellcheck shell=bash
# Makes trees of Debian with debootstrap, from the archives that this machine's apt trusts. Sourced after common.sh and
# criu.sh by the scripts that make machines for the tests; sets WORK, whose owner removes it.

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

# bootstrap_from SOURCE RELEASE FOLDER [OPTION...]: makes the tree of a release from the archive of one source.
bootstrap_from() {
  local source=$1 release=$2 folder=$3 address
  shift 3
  address=$(field_of "$source" URIs)
  case $address in
    mirror+file:*) address=$(awk '/^https?:/ { print $1; exit }' "${address#mirror+file:}") ;;
  esac
  rm -rf --one-file-system "$folder"
  # Mounts of its own, so that none of them is left however it ends.
  unshare --mount debootstrap --variant=minbase --keyring="$(keyring_of "$source")" "$@" "$release" "$folder" \
    "${address%% *}" >>"$LOG" 2>&1 {LOCK_FD}>&- || return 1
  # What nobody reads there, and is two thirds of it.
  rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/usr/share/{doc,locale,man}/*
}

# Gets ready for bootstrap, for the step $1: the sources to try, and apt's way out to the network.
prepare_bootstrap() {
  WORK=$(mktemp -d -p /var/tmp torpor-machine.XXXXXX)
  mkdir -p "$WORK/sources"
  write_candidate_sources "$WORK/sources" ||
    fail "$1" 'apt has no package source with a "main" component on this machine' \
      "add your distribution's archive to apt's sources"
  # debootstrap fetches by itself, and knows nothing of apt's settings.
  eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
  export http_proxy https_proxy
}

# bootstrap RELEASE FOLDER [OPTION...]: makes the tree of a release from the first archive that has it.
bootstrap() {
  local source
  for source in "$WORK"/sources/1-*.sources; do
    if bootstrap_from "$source" "$@"; then return; fi
  done
  return 1
}
