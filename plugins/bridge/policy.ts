/**
 * What an application in a capsule may ask of its user's session, and what of the session's signals it hears. All that is
 * not listed here is refused. The list has what such an application needs, and nothing by which it would do without the
 * user what the user has not asked for: the portals see a program of the session in us, and ask less than they would
 * ask a confined one, so those that show, record or steer the session are not here.
 */
import type { Message } from './message.ts';

export type Side = 'session' | 'system';

/** What is done with a call beyond passing it on. */
export type Treatment =
  | 'pass'
  | 'notify'
  | 'close-notification'
  | 'inhibit'
  | 'uninhibit'
  | 'inhibit-by-descriptor'
  | 'inhibit-by-request'
  | 'request'
  | 'open'
  | 'portal-notify'
  | 'open-session'
  | 'prompt';

export interface Service {
  name: string;
  side: Side;
  /** Interfaces, with the methods that are passed on. */
  interfaces: Readonly<Record<string, Readonly<Record<string, Treatment>>>>;
  /** Of which interfaces properties can be set; they can be read of all. */
  writable?: readonly string[];
  /** Paths of its objects begin with one of these. */
  paths: readonly string[];
}

const pass = (...members: string[]) => Object.fromEntries(members.map((each) => [each, 'pass'] as const));
const all = (treatment: Treatment, ...members: string[]) =>
  Object.fromEntries(members.map((each) => [each, treatment] as const));

const portal = 'org.freedesktop.portal';

/** Those with a part in what is said elsewhere. */
export const serviceNames = {
  notifications: 'org.freedesktop.Notifications',
  portal: 'org.freedesktop.portal.Desktop',
  secrets: 'org.freedesktop.secrets',
  loginManager: 'org.freedesktop.login1',
} as const;

export const services: readonly Service[] = [
  {
    name: 'org.freedesktop.Notifications',
    side: 'session',
    paths: ['/org/freedesktop/Notifications'],
    interfaces: {
      'org.freedesktop.Notifications': {
        ...pass('GetCapabilities', 'GetServerInformation'),
        Notify: 'notify',
        CloseNotification: 'close-notification',
      },
    },
  },
  {
    name: 'org.freedesktop.portal.Desktop',
    side: 'session',
    paths: ['/org/freedesktop/portal/desktop'],
    interfaces: {
      [`${portal}.FileChooser`]: all('request', 'OpenFile', 'SaveFile', 'SaveFiles'),
      [`${portal}.OpenURI`]: {
        ...all('open', 'OpenURI', 'OpenFile', 'OpenDirectory'),
        ...pass('SchemeSupported'),
      },
      [`${portal}.Print`]: all('request', 'PreparePrint', 'Print'),
      [`${portal}.Email`]: all('request', 'ComposeEmail'),
      [`${portal}.Account`]: all('request', 'GetUserInformation'),
      [`${portal}.Secret`]: all('request', 'RetrieveSecret'),
      [`${portal}.Inhibit`]: { Inhibit: 'inhibit-by-request' },
      [`${portal}.Notification`]: { AddNotification: 'portal-notify', ...pass('RemoveNotification') },
      [`${portal}.Settings`]: pass('Read', 'ReadOne', 'ReadAll'),
      [`${portal}.NetworkMonitor`]: pass(
        'GetAvailable',
        'GetMetered',
        'GetConnectivity',
        'GetStatus',
        'CanReach',
      ),
      [`${portal}.ProxyResolver`]: pass('Lookup'),
      [`${portal}.MemoryMonitor`]: {},
      [`${portal}.PowerProfileMonitor`]: {},
      [`${portal}.Request`]: pass('Close'),
    },
  },
  {
    name: 'org.freedesktop.secrets',
    side: 'session',
    paths: ['/org/freedesktop/secrets'],
    writable: ['org.freedesktop.Secret.Collection', 'org.freedesktop.Secret.Item'],
    interfaces: {
      'org.freedesktop.Secret.Service': {
        ...pass('CreateCollection', 'SearchItems', 'Unlock', 'Lock', 'GetSecrets', 'ReadAlias', 'SetAlias'),
        OpenSession: 'open-session',
      },
      'org.freedesktop.Secret.Collection': pass('Delete', 'SearchItems', 'CreateItem'),
      'org.freedesktop.Secret.Item': pass('Delete', 'GetSecret', 'SetSecret'),
      'org.freedesktop.Secret.Session': pass('Close'),
      'org.freedesktop.Secret.Prompt': { Prompt: 'prompt', ...pass('Dismiss') },
    },
  },
  {
    name: 'org.freedesktop.ScreenSaver',
    side: 'session',
    paths: ['/org/freedesktop/ScreenSaver', '/ScreenSaver'],
    interfaces: {
      'org.freedesktop.ScreenSaver': {
        ...pass('GetActive', 'GetActiveTime', 'GetSessionIdleTime', 'SimulateUserActivity'),
        Inhibit: 'inhibit',
        UnInhibit: 'uninhibit',
      },
    },
  },
  {
    name: 'org.freedesktop.PowerManagement.Inhibit',
    side: 'session',
    paths: ['/org/freedesktop/PowerManagement'],
    interfaces: {
      'org.freedesktop.PowerManagement.Inhibit': {
        ...pass('HasInhibit'),
        Inhibit: 'inhibit',
        UnInhibit: 'uninhibit',
      },
    },
  },
  {
    name: 'org.freedesktop.PowerManagement',
    side: 'session',
    paths: ['/org/freedesktop/PowerManagement'],
    interfaces: {
      'org.freedesktop.PowerManagement': pass('GetPowerSaveStatus', 'CanSuspend', 'CanHibernate'),
      'org.freedesktop.PowerManagement.Inhibit': {
        ...pass('HasInhibit'),
        Inhibit: 'inhibit',
        UnInhibit: 'uninhibit',
      },
    },
  },
  {
    name: 'org.gnome.SessionManager',
    side: 'session',
    paths: ['/org/gnome/SessionManager'],
    interfaces: {
      'org.gnome.SessionManager': { ...pass('IsInhibited'), Inhibit: 'inhibit', Uninhibit: 'uninhibit' },
    },
  },
  {
    name: 'org.freedesktop.login1',
    side: 'system',
    paths: ['/org/freedesktop/login1'],
    interfaces: {
      'org.freedesktop.login1.Manager': {
        ...pass('CanPowerOff', 'CanReboot', 'CanSuspend', 'CanHibernate'),
        Inhibit: 'inhibit-by-descriptor',
      },
    },
  },
  {
    name: 'org.freedesktop.NetworkManager',
    side: 'system',
    paths: ['/org/freedesktop/NetworkManager', '/org/freedesktop'],
    interfaces: {
      'org.freedesktop.NetworkManager': pass(
        ...['GetDevices', 'GetAllDevices', 'GetDeviceByIpIface', 'CheckConnectivity', 'state'],
      ),
      'org.freedesktop.NetworkManager.Connection.Active': {},
      'org.freedesktop.NetworkManager.Device': {},
      'org.freedesktop.NetworkManager.Device.Wired': {},
      'org.freedesktop.NetworkManager.Device.Wireless': {},
      'org.freedesktop.NetworkManager.DnsManager': {},
      'org.freedesktop.NetworkManager.IP4Config': {},
      'org.freedesktop.NetworkManager.IP6Config': {},
      'org.freedesktop.DBus.ObjectManager': pass('GetManagedObjects'),
    },
  },
];

/** Characters of a path that is kept for a resume, and of a program's name on a bus. */
export const longestPath = 400;
export const longestName = 40;

const properties = 'org.freedesktop.DBus.Properties';
const objectManager = 'org.freedesktop.DBus.ObjectManager';

/** Whether an object at this path is the service's. */
export function hasPath({ paths }: Service, path: string): boolean {
  return paths.some((each) => path === each || path.startsWith(`${each}/`));
}

/** An allowed call is passed on to that interface, whether or not it names one. */
export type Decision =
  | { kind: 'allowed'; treatment: Treatment; interface: string }
  | { kind: 'refused'; why: string };

/** What becomes of a call. `named` is the first string of its body, which says the interface of a property. Pure. */
export function decide(
  service: Service,
  call: Pick<Message, 'path' | 'interface' | 'member'>,
  named: string | undefined,
): Decision {
  const { path = '', interface: given = '', member = '' } = call;
  const refused = (what: string): Decision => ({
    kind: 'refused',
    why: `Torpor does not pass on ${what} from inside a capsule to ${service.name}.`,
  });
  if (!hasPath(service, path) || path.length > longestPath) return refused(`calls to ${path.slice(0, 100)}`);
  if (given === 'org.freedesktop.DBus.Peer' && member === 'Ping') return allowed('pass', given);
  if (given === 'org.freedesktop.DBus.Introspectable' && member === 'Introspect')
    return allowed('pass', given);
  if (given === properties) {
    const isKnown = named !== undefined && Object.hasOwn(service.interfaces, named);
    const isRead = member === 'Get' || member === 'GetAll';
    if (isKnown && (isRead || (member === 'Set' && service.writable?.includes(named) === true)))
      return allowed('pass', given);
    return refused(`${member} of properties of ${named ?? 'nothing'}`);
  }
  return methodOf(service, given, member) ?? refused(`${given}.${member}`);
}

const allowed = (treatment: Treatment, name: string): Decision => ({
  kind: 'allowed',
  treatment,
  interface: name,
});

/** Without an interface the only one is meant that has such a method. */
function methodOf(service: Service, given: string, member: string): Decision | undefined {
  const found = Object.entries(service.interfaces).filter(
    ([name, table]) => (given === '' || name === given) && Object.hasOwn(table, member),
  );
  const [first, ...more] = found;
  const treatment = first?.[1][member];
  if (first === undefined || treatment === undefined || more.length > 0) return undefined;
  return allowed(treatment, first[0]);
}

/** Whether a signal of the service is passed on. `named` as above. Pure. */
export function hears(
  service: Service,
  signal: Pick<Message, 'path' | 'interface' | 'member'>,
  named: string | undefined,
): boolean {
  const { path = '', interface: given = '' } = signal;
  if (!hasPath(service, path)) return false;
  if (given === properties) return named !== undefined && Object.hasOwn(service.interfaces, named);
  return Object.hasOwn(service.interfaces, given) || (given === objectManager && service.side === 'system');
}

/**
 * Limits of one capsule. An application that wants more is one that has gone wrong, or means harm. All that is kept for a
 * resume together fits into what a snapshot keeps of a plugin (api/plugin-types.ts).
 */
export const limits = {
  clients: 64,
  callsUnderWay: 256,
  callsUnderWayOfClient: 64,
  notifications: 50,
  inhibitors: 24,
  requests: 16,
  secretSessions: 32,
  players: 8,
  /** Characters of a text that is kept for a resume. */
  text: 120,
} as const;
