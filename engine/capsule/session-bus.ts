/**
 * The session bus of a capsule. It starts services as the machine's own does, except those that belong to the user's
 * session: of these there is one, outside, and the plugin `plugins/bridge` stands for it here.
 */

import { dirname, join } from 'node:path';
import { bridgedMark, capsuleBus } from '../../api/paths.ts';

/** Where the bus listens, as a capsule sees it. */
export const busSocketInside = capsuleBus('/run/torpor');

export const sessionBusConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <keep_umask/>
  <listen>unix:path=${busSocketInside}</listen>
  <auth>EXTERNAL</auth>
  <servicedir>/run/torpor/session/services</servicedir>
  <standard_session_servicedirs/>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <includedir>/usr/share/dbus-1/session.d</includedir>
  <includedir>/etc/dbus-1/session.d</includedir>
  <limit name="max_message_size">134217728</limit>
  <limit name="max_completed_connections">2048</limit>
  <limit name="max_connections_per_user">2048</limit>
  <limit name="max_names_per_connection">5000</limit>
  <limit name="max_match_rules_per_connection">50000</limit>
  <limit name="max_replies_per_connection">5000</limit>
</busconfig>
`;

/**
 * Services of the session that a capsule must not have a second of: it would show notifications to nobody, mount a file
 * system that cannot be saved, or write to the user's key rings beside the one outside.
 */
export const servicesFromOutside = [
  'org.freedesktop.Notifications',
  'org.freedesktop.ScreenSaver',
  'org.freedesktop.PowerManagement',
  'org.freedesktop.PowerManagement.Inhibit',
  'org.freedesktop.portal.Desktop',
  'org.freedesktop.portal.Documents',
  'org.freedesktop.secrets',
  'org.gnome.SessionManager',
  'org.gnome.keyring',
  'org.kde.kwalletd5',
  'org.kde.kwalletd6',
] as const;

const mark = join(dirname(busSocketInside), bridgedMark);

/**
 * A service file that stands before the machine's and starts nothing. An application that asks before the bridge has come
 * waits a little: what it has asked is delivered as soon as somebody has the name.
 */
export function refusal(name: string): string {
  const wait = `test -e ${mark} || sleep 1; : > ${mark}; exit 1`;
  return `[D-BUS Service]\nName=${name}\nExec=/bin/sh -c '${wait}'\n`;
}
