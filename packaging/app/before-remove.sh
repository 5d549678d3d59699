#!/bin/sh
# Before a package is removed or replaced: dpkg says "remove", rpm how many versions stay.
set -e
case $1 in
  remove | 0)
    # Applications run on until they end by themselves.
    if [ -d /run/systemd/system ]; then systemctl stop torpord.service || true; fi
    ;;
esac
# dpkg knows packages that are removed and not purged: one that is installed again finds enabled what was, and disabled what an
# administrator has disabled. after-remove.sh disables the units with the purge.
if [ "$1" = 0 ] && command -v systemctl >/dev/null; then
  systemctl disable torpord.service || true
  systemctl --global disable torpor-restore.service torpor-app.service || true
fi
