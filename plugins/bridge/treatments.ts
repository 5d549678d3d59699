/** Calls from inside that are not merely passed on, because they begin or end something that lasts. */
import { closeSync } from 'node:fs';
import type { Carried, HeldInhibitor, Inhibitor } from './carried.ts';
import { HeldPipe } from './held-pipe.ts';
import {
  entryOf,
  type Message,
  messageType,
  newCall,
  newError,
  newReply,
  readBody,
  type Value,
  writeBody,
} from './message.ts';
import { limits, longestPath, type Service, type Treatment } from './policy.ts';

export interface Passage {
  carried: Carried;
  service: Service;
  /** Who calls, by its name inside. */
  client: string;
  call: Message;
  /** Passes a call on in the client's name, and gives what answers it as the client is to see it. */
  exchange(call: Message): Promise<Message>;
}

type Treat = (passage: Passage) => Promise<Message>;

export const errors = {
  denied: 'org.freedesktop.DBus.Error.AccessDenied',
  limit: 'org.freedesktop.DBus.Error.LimitsExceeded',
  arguments: 'org.freedesktop.DBus.Error.InvalidArgs',
  noReply: 'org.freedesktop.DBus.Error.NoReply',
  notSupported: 'org.freedesktop.DBus.Error.NotSupported',
} as const;

const tooMany = (call: Message, what: string) =>
  newError(call, errors.limit, `Torpor keeps no more ${what} for one capsule.`);
const short = (value: Value | undefined, length: number = limits.text) =>
  String(value ?? '')
    .replace(/\p{Cc}/gu, ' ')
    .slice(0, length);

/** The values of a call of exactly this form; undefined for any other. */
function valuesOf(call: Message, signature: string): Value[] | undefined {
  return call.signature === signature ? readBody(call) : undefined;
}

const malformed = (call: Message, signature: string) =>
  newError(
    call,
    errors.arguments,
    `${call.member ?? 'The method'} takes arguments of the form "${signature}".`,
  );

function withValues(call: Message, values: readonly Value[]): Message {
  return { ...call, body: writeBody(call.signature, values, call.bigEndian) };
}

const pass: Treat = async ({ call, exchange, carried, client }) => {
  const reply = await exchange(call);
  if (reply.type === messageType.reply && call.interface === 'org.freedesktop.portal.Request') {
    carried.requests.delete(call.path ?? '');
    for (const each of carried.inhibitors)
      if (each.what.kind === 'request' && each.what.path === call.path) carried.inhibitors.delete(each);
  }
  if (reply.type === messageType.reply && call.member === 'Close')
    carried.secretSessions.delete(call.path ?? '');
  if (call.member === 'RemoveNotification' && call.signature === 's')
    carried.forgetPortalNotification(client, String(readBody(call)[0]));
  return reply;
};

const notifySignature = 'susssasa{sv}i';
const notify: Treat = async ({ call, exchange, carried }) => {
  const values = valuesOf(call, notifySignature);
  if (values === undefined) return malformed(call, notifySignature);
  const replaced = carried.notifications.get(Number(values[1]));
  using place = carried.reserve('notifications');
  if (replaced === undefined && place === undefined) return tooMany(call, 'open notifications');
  // Whatever number it says, it cannot touch what another has shown.
  values[1] = replaced?.outside ?? 0;
  const reply = await exchange(withValues(call, values));
  if (reply.signature !== 'u') return reply;
  const outside = Number(readBody(reply)[0]);
  const number = carried.byOutsideNotification(outside) ?? carried.newNumber();
  carried.notifications.set(number, { outside, owner: reply.sender });
  return newReply(call, 'u', [number]);
};

const closeNotification: Treat = async ({ call, exchange, carried }) => {
  const known = carried.notifications.get(Number(valuesOf(call, 'u')?.[0]));
  if (known === undefined || known.closed !== undefined)
    return newError(call, errors.arguments, 'There is no such notification.');
  return exchange(withValues(call, [known.outside]));
};

const inhibit: Treat = async (passage) => {
  const { call, carried, service, client, exchange } = passage;
  const signature = call.signature === 'susu' ? 'susu' : 'ss';
  const values = valuesOf(call, signature);
  if (values === undefined) return malformed(call, signature);
  using place = carried.reserve('inhibitors');
  if (place === undefined) return tooMany(call, 'inhibitors');
  // The second of four is a window, of a display that nobody outside knows.
  const kept = values.map((each, index) =>
    typeof each === 'number' ? (index === 1 ? 0 : each) : short(each),
  );
  const reply = await exchange(withValues(call, kept));
  if (reply.signature !== 'u') return reply;
  const cookie = carried.newNumber();
  const what: Inhibitor = {
    kind: 'cookie',
    client,
    service: service.name,
    path: call.path ?? '',
    interface: call.interface ?? Object.keys(service.interfaces)[0] ?? '',
    member: call.member ?? '',
    signature,
    values: kept,
    cookie,
  };
  carried.inhibitors.add({
    what,
    outside: { kind: 'cookie', cookie: Number(readBody(reply)[0]), owner: reply.sender },
  });
  return newReply(call, 'u', [cookie]);
};

const uninhibit: Treat = async ({ call, exchange, carried, client }) => {
  const held = carried.byCookie(Number(valuesOf(call, 'u')?.[0]));
  // Another's is held by another connection outside, and goes with that.
  if (held?.what.kind !== 'cookie' || held.what.client !== client)
    return newError(call, errors.arguments, 'There is no such inhibitor.');
  carried.inhibitors.delete(held);
  if (held.outside?.kind !== 'cookie') return newReply(call);
  return exchange(withValues(call, [held.outside.cookie]));
};

/** Held by a descriptor that the service gives out: it stays with us, and the application gets one of ours. */
const inhibitByDescriptor: Treat = async ({ call, exchange, carried }) => {
  const values = valuesOf(call, 'ssss');
  if (values === undefined) return malformed(call, 'ssss');
  using place = carried.reserve('inhibitors');
  if (place === undefined) return tooMany(call, 'inhibitors');
  const kept = values.map((each) => short(each));
  const reply = await exchange(withValues(call, kept));
  const [fd, ...more] = reply.fds.splice(0);
  for (const each of more) closeSync(each);
  if (reply.signature !== 'h' || fd === undefined) return reply;
  const { pipe, given } = HeldPipe.make();
  const held: HeldInhibitor = {
    what: { kind: 'descriptor', values: kept, held: [], inode: pipe.inode },
    outside: { kind: 'descriptor', fd, owner: reply.sender },
    pipe,
  };
  carried.inhibitors.add(held);
  followPipe(carried, held);
  return { ...newReply(call, 'h', [0]), fds: [given] };
};

/** Releases it when the application does. */
export function followPipe(carried: Carried, held: HeldInhibitor): void {
  const { pipe } = held;
  void pipe?.ended.then(() => {
    if (held.pipe !== pipe) return;
    carried.inhibitors.delete(held);
    releaseDescriptor(held);
  });
}

/** Closes what holds it, on both sides. */
export function releaseDescriptor(held: HeldInhibitor): void {
  const { outside, pipe } = held;
  if (outside?.kind !== 'descriptor' && pipe === undefined) return;
  held.outside = undefined;
  delete held.pipe;
  if (outside?.kind === 'descriptor') closeSync(outside.fd);
  pipe?.close();
}

/** A portal's dialog would belong to a window of a display that is not outside. */
const withoutWindow = (values: Value[]): Value[] => ['', ...values.slice(1)];

const request: Treat = async ({ call, exchange, carried, client }) => {
  if (!call.signature.startsWith('s') && call.member !== 'RetrieveSecret') return malformed(call, 's…');
  using place = carried.reserve('requests');
  if (place === undefined) return tooMany(call, 'requests to its user');
  const values = readBody(call);
  const isOfWindow = call.signature.startsWith('s');
  const reply = await exchange(isOfWindow ? withValues(call, withoutWindow(values)) : call);
  if (reply.signature === 'o')
    carried.requests.set(short(readBody(reply)[0], longestPath), { client, owner: reply.sender });
  return reply;
};

/** What is opened without a question, as any program of the session opens it; for all else the user is asked. */
const unasked = /^(https?|mailto):/i;
const open: Treat = async (passage) => {
  const { call } = passage;
  if (!/^s[sh]a\{sv\}$/.test(call.signature)) return malformed(call, 'ssa{sv}');
  const [window = '', target = '', options] = readBody(call);
  if (call.member === 'OpenURI' && unasked.test(String(target))) return request(passage);
  const others = (options as [string, Value][]).filter(([key]) => key !== 'ask');
  const asked: Value[] = [...others, ['ask', { signature: 'b', value: true }]];
  return request({ ...passage, call: withValues(call, [window, target, asked]) });
};

const inhibitByRequest: Treat = async ({ call, exchange, carried, client }) => {
  const values = valuesOf(call, 'sua{sv}');
  if (values === undefined) return malformed(call, 'sua{sv}');
  using place = carried.reserve('inhibitors');
  if (place === undefined) return tooMany(call, 'inhibitors');
  const reply = await exchange(withValues(call, withoutWindow(values)));
  if (reply.signature !== 'o') return reply;
  const path = short(readBody(reply)[0], longestPath);
  const reason = short(entryOf(values[2], 'reason'));
  const what: Inhibitor = { kind: 'request', client, path, flags: Number(values[1]), reason };
  carried.inhibitors.add({ what, outside: { kind: 'request', path, owner: reply.sender } });
  return reply;
};

const portalNotify: Treat = async ({ call, exchange, carried, client }) => {
  const id = valuesOf(call, 'sa{sv}')?.[0];
  if (typeof id !== 'string') return malformed(call, 'sa{sv}');
  // It is kept, to be taken back.
  if (id.length > longestPath)
    return newError(call, errors.limit, `Torpor passes on no name longer than ${longestPath} characters.`);
  const reply = await exchange(call);
  if (reply.type === messageType.reply) carried.notePortalNotification(client, id);
  return reply;
};

/**
 * Secrets cross the two buses, which both are the user's alone, as they are. A session with a key of its own would not
 * survive: libsecret and others open a plain one where there is no other.
 */
const openSession: Treat = async ({ call, exchange, carried, client }) => {
  const algorithm = valuesOf(call, 'sv')?.[0];
  if (algorithm === undefined) return malformed(call, 'sv');
  if (algorithm !== 'plain')
    return newError(call, errors.notSupported, 'Inside a capsule the algorithm is "plain".');
  using place = carried.reserve('secretSessions');
  if (place === undefined) return tooMany(call, 'sessions for secrets');
  const reply = await exchange(call);
  if (reply.signature !== 'vo') return reply;
  const [output = '', outside] = readBody(reply);
  const path = carried.newSessionPath();
  carried.secretSessions.set(path, { client, outside: { path: String(outside), owner: reply.sender } });
  return newReply(call, 'vo', [output, path]);
};

const prompt: Treat = async ({ call, exchange, carried, client }) => {
  if (valuesOf(call, 's') === undefined) return malformed(call, 's');
  using place = carried.reserve('prompts');
  if (place === undefined) return tooMany(call, 'requests to its user');
  const reply = await exchange(withValues(call, ['']));
  if (reply.type === messageType.reply)
    carried.prompts.set(short(call.path, longestPath), { client, owner: reply.sender });
  return reply;
};

export const treatments: Readonly<Record<Treatment, Treat>> = {
  pass,
  notify,
  'close-notification': closeNotification,
  inhibit,
  uninhibit,
  'inhibit-by-descriptor': inhibitByDescriptor,
  'inhibit-by-request': inhibitByRequest,
  request,
  open,
  'portal-notify': portalNotify,
  'open-session': openSession,
  prompt,
};

/** The call by which an inhibitor is taken again. */
export function callToTake(what: Inhibitor): Message {
  if (what.kind === 'descriptor') {
    const to = {
      destination: 'org.freedesktop.login1',
      path: '/org/freedesktop/login1',
      interface: 'org.freedesktop.login1.Manager',
      member: 'Inhibit',
    };
    return newCall(to, 'ssss', what.values);
  }
  if (what.kind === 'cookie') {
    const { path, member } = what;
    const to = { destination: what.service, path, interface: what.interface, member };
    return newCall(to, what.signature, what.values);
  }
  const to = {
    destination: 'org.freedesktop.portal.Desktop',
    path: '/org/freedesktop/portal/desktop',
    interface: 'org.freedesktop.portal.Inhibit',
    member: 'Inhibit',
  };
  const token = what.path.slice(what.path.lastIndexOf('/') + 1);
  const options: Value[] = [
    ['handle_token', { signature: 's', value: token }],
    ['reason', { signature: 's', value: what.reason }],
  ];
  return newCall(to, 'sua{sv}', ['', what.flags, options]);
}

/** The call by which it is released; undefined where it is held by nothing but the connection. */
export function callToRelease({ what, outside }: HeldInhibitor): Message | undefined {
  if (what.kind === 'cookie' && outside?.kind === 'cookie') {
    const member = what.member === 'Inhibit' && what.signature === 'susu' ? 'Uninhibit' : 'UnInhibit';
    const to = { destination: what.service, path: what.path, interface: what.interface, member };
    return newCall(to, 'u', [outside.cookie]);
  }
  if (what.kind === 'request' && outside?.kind === 'request') {
    const destination = 'org.freedesktop.portal.Desktop';
    return newCall({
      destination,
      path: outside.path,
      interface: 'org.freedesktop.portal.Request',
      member: 'Close',
    });
  }
  return undefined;
}
