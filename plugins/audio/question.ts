/** Asks the user on the desktop, by org.freedesktop.Notifications (Desktop Notifications Specification 1.2). */
import { Message, MessageType, Variant } from '@jellybrick/dbus-next';
import { BusConnection } from '../../api/connection.ts';

const service = {
  destination: 'org.freedesktop.Notifications',
  path: '/org/freedesktop/Notifications',
  interface: 'org.freedesktop.Notifications',
} as const;
/** It stays until it is answered: critical, and never expiring by itself. */
const critical = new Variant('y', 2);
const never = 0;

const texts = {
  en: {
    title: (name: string) => `May ${name} use the microphone?`,
    body: 'It has just begun to record. The answer is remembered for this application.',
    yes: 'Allow',
    no: 'Deny',
  },
  de: {
    title: (name: string) => `Darf ${name} das Mikrofon benutzen?`,
    body: 'Es hat gerade mit einer Aufnahme begonnen. Die Antwort gilt für diese Anwendung auch künftig.',
    yes: 'Erlauben',
    no: 'Ablehnen',
  },
};

/**
 * @param callOff where nobody wants to know any more.
 * @returns the answer; undefined where it was closed, called off, or there was none within the limit. A question that nobody
 * has answered by then is taken away.
 * @throws Error where nobody shows it.
 */
export async function askForMicrophone(
  name: string,
  limitMs: number,
  callOff: AbortSignal,
  env: NodeJS.ProcessEnv = process.env,
): Promise<boolean | undefined> {
  const address = env.DBUS_SESSION_BUS_ADDRESS;
  if (!address) throw new Error('there is no session bus');
  await using connection = await BusConnection.open(address);
  await connection.addMatch(`type='signal',interface='${service.interface}'`);
  const said: Message[] = [];
  let heard: (message: Message) => void = (message) => said.push(message);
  connection.bus.on('message', (message: Message) => heard(message));
  const { title, body, yes, no } = (env.LC_ALL || env.LC_MESSAGES || env.LANG || '').startsWith('de')
    ? texts.de
    : texts.en;
  const reply = await connection.call(
    new Message({
      ...service,
      member: 'Notify',
      signature: 'susssasa{sv}i',
      body: [
        'Torpor',
        0,
        'audio-input-microphone',
        title(name),
        body,
        ['allow', yes, 'deny', no],
        { urgency: critical, 'desktop-entry': new Variant('s', 'torpor') },
        never,
      ],
    }),
  );
  const id = Number(reply.body[0]);
  let timer: NodeJS.Timeout | undefined;
  const answered = new Promise<boolean | undefined>((resolve) => {
    heard = (message) => {
      if (message.type !== MessageType.SIGNAL || message.interface !== service.interface) return;
      if (Number(message.body[0]) !== id) return;
      if (message.member === 'ActionInvoked') resolve(message.body[1] === 'allow');
      if (message.member === 'NotificationClosed') resolve(undefined);
    };
    said.forEach(heard);
    connection.onLost(() => resolve(undefined));
    timer = setTimeout(() => resolve(undefined), limitMs);
    callOff.addEventListener('abort', () => resolve(undefined), { once: true });
    if (callOff.aborted) resolve(undefined);
  });
  try {
    return await answered;
  } finally {
    clearTimeout(timer);
    await connection
      .call(new Message({ ...service, member: 'CloseNotification', signature: 'u', body: [id] }))
      // It has closed by itself.
      .catch(() => {});
  }
}
