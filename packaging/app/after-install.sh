#!/bin/sh
# After a package was installed or brought up to date. The packager fills in names between dollar and braces, so none are
# used here.
set -e
root=/opt/Torpor

ln -sfn "$root/resources/engine" /usr/lib/torpor
ln -sf /usr/lib/torpor/torpor /usr/bin/torpor

# Chromium's sandbox needs either user namespaces or this program with root's rights.
if unshare --user true 2>/dev/null; then
  chmod 0755 "$root/chrome-sandbox"
else
  chmod 4755 "$root/chrome-sandbox"
fi

# dpkg says "configure" and the version before, if there was one; rpm how many versions there are now. What an administrator
# has disabled since the first time stays disabled.
first=no
case $1 in
  configure) [ -n "$2" ] || first=yes ;;
  1) first=yes ;;
esac
if [ "$first" = yes ] && command -v systemctl >/dev/null; then
  # From the start on, so that a shutdown waits for what is to be saved.
  systemctl enable torpord.service || true
  systemctl --global enable torpor-restore.service || true
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # The bus takes the new policy, and the log-in manager how long a shutdown waits.
  systemctl reload dbus.service || true
  systemctl kill --signal=HUP systemd-logind.service || true
  # An engine of the version before makes way. Applications run on.
  systemctl try-restart torpord.service || true
  if systemctl is-enabled --quiet torpord.service; then systemctl start torpord.service || true; fi
fi
if command -v update-desktop-database >/dev/null; then
  update-desktop-database -q /usr/share/applications || true
fi
if command -v gtk-update-icon-cache >/dev/null; then
  gtk-update-icon-cache -qtf /usr/share/icons/hicolor || true
fi
