#!/bin/sh
# Before a package is removed or replaced: dpkg says "remove", rpm how many versions stay.
set -e
case $1 in
  remove | 0)
    # Applications run on until they end by themselves.
    if [ -d /run/systemd/system ]; then systemctl stop torpord.service || true; fi
    if command -v systemctl >/dev/null; then
      systemctl disable torpord.service || true
      systemctl --global disable torpor-restore.service torpor-app.service || true
    fi
    ;;
esac
