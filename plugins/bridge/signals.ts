/** From outside to inside: what services say, to everybody or to a program of one capsule alone. */
import { closeDescriptors } from './bus.ts';
import type { Carried } from './carried.ts';
import type { Client } from './client.ts';
import type { Clients, Outside } from './clients.ts';
import type { Faces } from './faces.ts';
import {
  firstString,
  isTooLarge,
  type Message,
  messageType,
  newError,
  newSignal,
  readBody,
} from './message.ts';
import { hears, type Service, type Side, serviceNames } from './policy.ts';
import { errors } from './treatments.ts';
import type { UnderWay } from './under-way.ts';

export class Signals {
  readonly #outside: Outside;
  readonly #carried: Carried;
  readonly #clients: Clients;
  readonly #faces: Faces;
  readonly #notifying: UnderWay;
  #isOver = false;

  constructor(outside: Outside, carried: Carried, clients: Clients, faces: Faces, notifying: UnderWay) {
    this.#outside = outside;
    this.#carried = carried;
    this.#clients = clients;
    this.#faces = faces;
    this.#notifying = notifying;
  }

  /** Nothing more is heard: what comes of our own leaving is told after the resume. */
  stop(): void {
    this.#isOver = true;
  }

  /** Something was said to a program's own connection. */
  receive(client: Client, side: Side, message: Message): void {
    // Answers that came with it, in the same read, are dealt with first: one may say what this is about.
    setImmediate(() => this.#receive(client, side, message));
  }

  #receive(client: Client, side: Side, message: Message): void {
    const outside = this.#outside[side];
    const service = outside?.serviceOf(message.sender ?? '', message.path ?? '');
    if (message.type === messageType.signal && service !== undefined)
      void this.hear(service, message, client).catch(() => {});
    else closeDescriptors(message);
    if (message.type === messageType.call && outside !== undefined && !client.isOver)
      void client
        .connect(outside)
        .then((bus) => bus.send(newError(message, errors.denied, 'Nothing is called by this name.')))
        .catch(() => {});
  }

  /** A service has said this to a program, or to everybody. */
  async hear(service: Service, message: Message, client: Client | undefined): Promise<void> {
    closeDescriptors(message);
    if (this.#isOver) return;
    const isPassed = !isTooLarge(message) && hears(service, message, firstString(message));
    if (!isPassed) return;
    const { sender, destination, ...said } = this.#clients.toInside(message, client);
    if (service.name === serviceNames.notifications && said.interface === serviceNames.notifications)
      return this.#hearNotification(said);
    if (said.member === 'Response') this.#carried.requests.delete(said.path ?? '');
    if (said.member === 'Completed') this.#carried.prompts.delete(said.path ?? '');
    this.#faces.say(service.name, client === undefined ? said : { ...said, destination: client.name });
  }

  /** Of notifications it hears what is about its own, by the numbers that it knows them by. */
  async #hearNotification(message: Message): Promise<void> {
    if (!message.signature.startsWith('u')) return;
    await this.#notifying.settled();
    if (this.#isOver) return;
    const [outside, ...rest] = readBody(message);
    const number = this.#carried.byOutsideNotification(Number(outside));
    if (number === undefined) return;
    if (message.member === 'NotificationClosed') this.#carried.notifications.delete(number);
    const { path = '', interface: name = '', member = '' } = message;
    this.#faces.say(
      serviceNames.notifications,
      newSignal({ path, interface: name, member }, message.signature, [number, ...rest]),
    );
  }
}
