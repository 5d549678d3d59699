#!/bin/sh
# Before a package is removed or replaced: dpkg says "remove", rpm how many versions stay.
set -e
case $1 in
  remove | 0)
    if [ -d /run/systemd/system ]; then systemctl stop torpord.service || true; fi
    ;;
esac
