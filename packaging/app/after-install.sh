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

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # The bus starts the engine with the first call; one of the version before makes way for it. Applications run on.
  systemctl reload dbus.service || true
  systemctl try-restart torpord.service || true
fi
if command -v update-desktop-database >/dev/null; then
  update-desktop-database -q /usr/share/applications || true
fi
if command -v gtk-update-icon-cache >/dev/null; then
  gtk-update-icon-cache -qtf /usr/share/icons/hicolor || true
fi
