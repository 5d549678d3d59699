#!/bin/sh
# After a package was removed or replaced: dpkg says "remove" or "purge", rpm how many versions stay. Snapshots are the
# users' work and stay, whatever is removed.
set -e
case $1 in
  remove | purge | 0) ;;
  *) exit 0 ;;
esac

# Only where they are ours, and lead nowhere by now.
for link in /usr/bin/torpor /usr/lib/torpor; do
  if [ -L "$link" ] && [ ! -e "$link" ]; then rm -f "$link"; fi
done
if [ "$1" = purge ] && command -v systemctl >/dev/null; then
  # It says that there are no such units, and removes what has enabled them.
  systemctl disable torpord.service 2>/dev/null || true
  systemctl --global disable torpor-restore.service torpor-app.service 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  systemctl reload dbus.service || true
fi
if command -v update-desktop-database >/dev/null; then
  update-desktop-database -q /usr/share/applications || true
fi
if [ -d /var/lib/torpor ]; then
  echo 'Torpor is removed. Suspended applications and their snapshots are still in /var/lib/torpor:'
  echo 'install Torpor again to resume them, or delete that folder to give them up.'
fi
