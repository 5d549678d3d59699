#!/bin/bash
# Puts a CRIU of at least 4.2.1 at build/criu/criu: a link to the system's where that is new enough and passes
# `criu check`; otherwise the package of the distribution's newer suite, with the libraries and the loader it was
# built for, as a private prefix that the rest of the machine never sees (docs/decisions/0001-criu-supply.md).
# Safe to run again: when what is there works, nothing is touched.
#
# usage: criu.sh        (as root)
set -euo pipefail
# shellcheck source=scripts/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MINIMUM=4.2.1
# Suites by role, not by name, so that this list does not age with the distribution's next release.
SUITES=(testing unstable)
PREFIX=$TORPOR_BUILD/criu
STAGE=$TORPOR_BUILD/criu.new

# Version of the CRIU started by the given command ("4.2.1"); fails where it does not run.
criu_version() { "$@" --version 2>/dev/null | sed -n 's/^Version: *//p' | grep .; }

# Whether the CRIU started by the given command is new enough and finds all it needs in this kernel.
criu_fits() {
  local version
  version=$(criu_version "$@") && version_at_least "$version" "$MINIMUM" && "$@" check >/dev/null 2>&1
}

# The private CRIU names its loader by absolute path: the kernel resolves no $ORIGIN there.
point_at_loader() {
  patchelf --set-interpreter "$PREFIX/ld.so" --set-rpath "\$ORIGIN/lib" --force-rpath "$1"
}

# Whether build/criu is complete and made for this place. A copied checkout still runs the loader of the original,
# so the interpreter is compared as well.
prefix_is_current() {
  [ -x "$PREFIX/criu" ] || return 1
  if [ ! -L "$PREFIX/criu" ]; then
    [ "$(patchelf --print-interpreter "$PREFIX/criu" 2>/dev/null)" = "$PREFIX/ld.so" ] || return 1
  fi
  criu_fits "$PREFIX/criu"
}

# Puts the finished stage in the prefix's place: a reader sees the old one or the new one, never a mixture.
publish_stage() {
  rm -rf "$PREFIX.old"
  if [ -e "$PREFIX" ]; then mv -T "$PREFIX" "$PREFIX.old" || return 1; fi
  mv -T "$STAGE" "$PREFIX" || return 1
  rm -rf "$PREFIX.old"
}

# Prints the path of the system's CRIU if it will do.
system_criu() {
  local path
  path=$(PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v criu) && criu_fits "$path" && printf '%s\n' "$path"
}

# A checkout that was moved or copied has all but the loader's path right: mends that without the network.
mend_moved_prefix() {
  [ -f "$PREFIX/criu" ] && [ ! -L "$PREFIX/criu" ] && [ -x "$PREFIX/ld.so" ] || return 1
  rm -rf "$STAGE"
  cp -a "$PREFIX" "$STAGE" && point_at_loader "$STAGE/criu" && criu_fits_staged && publish_stage && prefix_is_current
}

# The staged CRIU's interpreter names its final place, so until then its loader is started by hand.
criu_fits_staged() { criu_fits "$STAGE/ld.so" --library-path "$STAGE/lib" --argv0 criu "$STAGE/criu"; }

# Writes one deb822 source per archive that this machine already trusts for its `main` packages to folder $1, with
# @SUITE@ for the suite; those that serve the running release come first. Reads both formats of apt's sources, so that
# address, mirror list, signing key (a path or an inline block) and the rule about expired indexes are the machine's own.
write_candidate_sources() {
  local out=$1 codename list folder
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  eval "$(apt-config shell list Dir::Etc::sourcelist/f folder Dir::Etc::sourceparts/d)"
  shopt -s nullglob
  local files=("${folder%/}"/*.sources "${folder%/}"/*.list)
  shopt -u nullglob
  [ -f "$list" ] && files+=("$list")
  [ "${#files[@]}" -gt 0 ] || return 1
  awk -v out="$out" -v codename="$codename" '
    function emit(uris, suites, components, key, expiry,    text, rank, i, n, suite) {
      if (uris == "" || (" " components " ") !~ / main /) return
      n = split(suites, suite, /[ \t]+/)
      rank = 0
      for (i = 1; i <= n; i++) {
        if (suite[i] == "" || suite[i] ~ /-security|\/$/) continue
        if (rank == 0) rank = 2
        if (suite[i] == codename) rank = 1
      }
      if (rank == 0) return
      text = "Types: deb\nURIs: " uris "\nSuites: @SUITE@\nComponents: main\n"
      if (key != "") text = text "Signed-By: " key "\n"
      if (expiry != "") text = text "Check-Valid-Until: " expiry "\n"
      if (text in seen) return
      seen[text] = 1
      count++
      printf "%s", text > sprintf("%s/%d-%02d.sources", out, rank, count)
    }
    function stanza() {
      if (tolower(field["enabled"]) !~ /^(no|false|0|off)$/ && (" " field["types"] " ") ~ / deb /)
        emit(field["uris"], field["suites"], field["components"], field["signed-by"], field["check-valid-until"])
      split("", field); name = ""
    }
    FNR == 1 { stanza(); deb822 = FILENAME ~ /\.sources$/ }
    { sub(/\r$/, "") }
    deb822 && /^[ \t]*#/ { next }
    deb822 && /^[ \t]*$/ { stanza(); next }
    # Inside an inline key block line breaks matter; elsewhere a continuation is one more word.
    deb822 && /^[ \t]/ {
      if (name == "signed-by") field[name] = field[name] "\n" $0
      else { sub(/^[ \t]+/, " "); field[name] = field[name] $0 }
      next
    }
    deb822 {
      name = tolower($0); sub(/:.*/, "", name)
      value = $0; sub(/^[^:]*:[ \t]*/, "", value); sub(/[ \t]+$/, "", value)
      field[name] = value
      next
    }
    /^[ \t]*deb[ \t]/ {
      line = $0; sub(/#.*/, "", line); sub(/^[ \t]*deb[ \t]+/, "", line)
      key = expiry = ""
      if (match(line, /^\[[^]]*\]/)) {
        n = split(substr(line, 2, RLENGTH - 2), option, /[ \t]+/)
        line = substr(line, RLENGTH + 1)
        for (i = 1; i <= n; i++) {
          if (sub(/^signed-by=/, "", option[i])) { key = option[i]; gsub(/,/, " ", key) }
          if (sub(/^check-valid-until=/, "", option[i])) expiry = option[i]
        }
      }
      n = split(line, word, /[ \t]+/)
      first = (word[1] == "") ? 2 : 1
      components = ""
      for (i = first + 2; i <= n; i++) components = components " " word[i]
      emit(word[first], word[first + 1], components, key, expiry)
    }
    END { stanza() }
  ' "${files[@]}"
  ls "$out"/*.sources >/dev/null 2>&1
}

# apt with sources, lists, cache and status of its own in $WORK: the machine's are only read for their keys. An empty
# status makes every package look uninstalled, so that `download` always takes the newer suite's.
private_apt() {
  local tool=$1
  shift
  "$tool" -q \
    -o Dir::Etc::sourcelist="$WORK/newer.sources" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State::lists="$WORK/lists" -o Dir::State::status="$WORK/status" -o Dir::Cache="$WORK/cache" \
    -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Default-Release= "$@"
}

# Finds the first archive and suite whose CRIU is new enough; sets SUITE and PACKAGE_VERSION and leaves private_apt
# pointing there.
choose_suite() {
  local source
  mkdir -p "$WORK/sources" "$WORK/lists/partial" "$WORK/cache/archives/partial"
  : >"$WORK/status"
  write_candidate_sources "$WORK/sources" ||
    fail 'CRIU' 'apt has no package source with a "main" component on this machine' \
      "add your distribution's archive to apt's sources, or install CRIU $MINIMUM or later yourself"
  for SUITE in "${SUITES[@]}"; do
    for source in "$WORK"/sources/*.sources; do
      sed "s|@SUITE@|$SUITE|" "$source" >"$WORK/newer.sources"
      private_apt apt-get update >>"$WORK/log" 2>&1 || continue
      PACKAGE_VERSION=$(private_apt apt-cache policy criu 2>/dev/null | sed -n 's/^ *Candidate: *//p')
      if [ -n "$PACKAGE_VERSION" ] && [ "$PACKAGE_VERSION" != '(none)' ] &&
        dpkg --compare-versions "$PACKAGE_VERSION" ge "$MINIMUM"; then
        return
      fi
    done
  done
  sed 's/^/  apt: /' "$WORK/log" | tail -n 15 >&2
  fail 'CRIU' "none of the suites ${SUITES[*]} of this machine's package sources offers CRIU $MINIMUM or later" \
    "see apt's lines above; check the network, or install CRIU $MINIMUM or later yourself and run this again"
}

# Downloads the named packages (apt checks signature and hash) and unpacks them over $WORK/tree.
take_packages() {
  rm -rf "$WORK/debs"
  mkdir -p "$WORK/debs" "$WORK/tree"
  # apt drops its rights for the download, and needs the folder to write to.
  if id _apt >/dev/null 2>&1; then chown _apt "$WORK/debs"; fi
  (cd "$WORK/debs" && private_apt apt-get download "$@") >>"$WORK/log" 2>&1 || {
    tail -n 15 "$WORK/log" | sed 's/^/  apt: /' >&2
    fail 'CRIU' "could not download $*" "see apt's lines above; check the network and run this again"
  }
  local deb
  for deb in "$WORK"/debs/*.deb; do
    dpkg-deb -x "$deb" "$WORK/tree" ||
      fail 'CRIU' "could not unpack ${deb##*/}" "see the line above; check the free space of /var/tmp"
    dpkg-deb -f "$deb" Package Version | sed -n 's/^[A-Za-z]*: //p' | paste -sd' ' >>"$WORK/packages"
  done
}

# Path of library $1 in the unpacked tree.
unpacked_library() {
  find "$WORK/tree/lib" "$WORK/tree/lib64" "$WORK/tree/usr/lib" "$WORK/tree/usr/lib64" -name "$1" \
    2>/dev/null | sort | head -n 1
}

needed_by() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

# Copies every library that $STAGE/criu needs, and their own, to $STAGE/lib; prints the names not found.
collect_libraries() {
  local queue=("$STAGE/criu") seen=' ' file name path
  while [ "${#queue[@]}" -gt 0 ]; do
    file=${queue[0]}
    queue=("${queue[@]:1}")
    for name in $(needed_by "$file"); do
      case $seen in *" $name "*) continue ;; esac
      seen="$seen$name "
      path=$(unpacked_library "$name")
      if [ -z "$path" ]; then
        printf '%s\n' "$name"
        continue
      fi
      cp -L "$path" "$STAGE/lib/$name" || return 1
      queue+=("$STAGE/lib/$name")
    done
  done
}

# The library packages that the packages $@ depend on directly.
library_dependencies() {
  private_apt apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$@" 2>/dev/null | sed -n 's/^ *|\{0,1\}\(Pre\)\{0,1\}Depends: *\(lib[^ <>]*\)$/\2/p' | sort -u
}

# Builds the private prefix from the newer suite's packages.
build_prefix() {
  # Below /var/tmp, not /tmp: a small tmpfs need not hold the 100 MB of lists and packages.
  WORK=$(mktemp -d -p /var/tmp torpor-criu.XXXXXX)
  trap 'rm -rf "$WORK" "$STAGE"' EXIT
  chmod 755 "$WORK"
  choose_suite
  say "taking CRIU $PACKAGE_VERSION with its libraries from the suite \"$SUITE\""
  take_packages criu
  rm -rf "$STAGE"
  mkdir -p "$STAGE/lib"
  cp -L "$(find "$WORK/tree/usr/sbin" "$WORK/tree/sbin" -name criu 2>/dev/null | head -n 1)" "$STAGE/criu"

  # One level of dependencies at a time, and only as deep as the linker asks: no more than a few packages are taken.
  local level=(criu) next missing taken=' criu ' name
  while true; do
    missing=$(collect_libraries) || fail 'CRIU' "could not fill $STAGE" 'see the line above; check the free space'
    [ -n "$missing" ] || break
    next=()
    for name in $(library_dependencies "${level[@]}"); do
      case $taken in *" $name "*) continue ;; esac
      next+=("$name")
      taken="$taken$name "
    done
    [ "${#next[@]}" -gt 0 ] ||
      fail 'CRIU' "no package of the suite \"$SUITE\" provides ${missing//$'\n'/, }" \
        'report this with the version of your distribution'
    take_packages "${next[@]}"
    level=("${next[@]}")
  done

  local loader
  loader=$(patchelf --print-interpreter "$STAGE/criu")
  cp -L "$(unpacked_library "$(basename "$loader")")" "$STAGE/ld.so"
  chmod 755 "$STAGE/criu" "$STAGE/ld.so"
  point_at_loader "$STAGE/criu"
  sort -u "$WORK/packages" >"$STAGE/packages"
  if ! criu_fits_staged; then
    "$STAGE/ld.so" --library-path "$STAGE/lib" --argv0 criu "$STAGE/criu" check >&2 || true
    fail 'CRIU' "CRIU $PACKAGE_VERSION does not pass its own check on kernel $(uname -r)" \
      "see criu's lines above; they name the kernel feature or the right that is missing"
  fi
  publish_stage
}

main() {
  [ "$(id -u)" = 0 ] || fail 'CRIU' 'this needs root' 'run it with sudo'
  local path tool
  take_lock criu
  if prefix_is_current; then return; fi
  if path=$(system_criu); then
    rm -rf "$STAGE"
    mkdir -p "$STAGE"
    ln -s "$path" "$STAGE/criu"
    publish_stage
    say "using the system's CRIU $(criu_version "$path")"
    return
  fi
  for tool in patchelf readelf; do
    command -v "$tool" >/dev/null || fail 'CRIU' "$tool is missing" 'run scripts/setup.sh, which installs it'
  done
  if mend_moved_prefix; then
    say "CRIU $(criu_version "$PREFIX/criu") follows the checkout to its new place"
    return
  fi
  build_prefix
  prefix_is_current || fail 'CRIU' "$PREFIX/criu does not run" 'remove that folder and run this again'
  say "CRIU $(criu_version "$PREFIX/criu") is in build/criu"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
