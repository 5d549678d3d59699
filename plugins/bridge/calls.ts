/** From inside to outside: what the programs of one capsule call. */
import { type Bus, closeDescriptors } from './bus.ts';
import type { Carried } from './carried.ts';
import type { Client } from './client.ts';
import type { Clients, Outside } from './clients.ts';
import {
  firstString,
  isTooLarge,
  largestMessage,
  type Message,
  messageType,
  newError,
  noReplyExpected,
} from './message.ts';
import type { OutsideBus } from './outside.ts';
import { decide, limits, type Service } from './policy.ts';
import { errors, type Passage, treatments } from './treatments.ts';
import { UnderWay } from './under-way.ts';

export class Calls {
  readonly underWay = new UnderWay();
  /** What comes of a notification may come before we know what it is called. */
  readonly notifying = new UnderWay();
  readonly #outside: Outside;
  readonly #carried: Carried;
  readonly #clients: Clients;

  constructor(outside: Outside, carried: Carried, clients: Clients) {
    this.#outside = outside;
    this.#carried = carried;
    this.#clients = clients;
  }

  /** Somebody inside has sent this to a service, whose face answers. */
  receive(service: Service, face: Bus, message: Message): void {
    if (message.type === messageType.call) void this.underWay.add(this.#serve(service, face, message));
    else closeDescriptors(message);
  }

  async #serve(service: Service, face: Bus, call: Message): Promise<void> {
    let reply: Message;
    try {
      reply = await this.#answer(service, call);
    } catch (error) {
      reply = newError(call, errors.noReply, `${service.name} cannot be reached: ${String(error)}.`);
    }
    closeDescriptors(call);
    const isWanted = (call.flags & noReplyExpected) === 0 && face.isOpen;
    if (isWanted) face.send({ ...reply, destination: call.sender ?? '', replySerial: call.serial });
    else closeDescriptors(reply);
  }

  async #answer(service: Service, call: Message): Promise<Message> {
    if (isTooLarge(call))
      return newError(call, errors.limit, `Torpor passes on no message larger than ${largestMessage} bytes.`);
    const decision = decide(service, call, firstString(call));
    if (decision.kind === 'refused') return newError(call, errors.denied, decision.why);
    call.interface = decision.interface;
    const client = this.#clients.of(call.sender ?? '');
    if (client === undefined)
      return newError(
        call,
        errors.limit,
        `Torpor serves no more than ${limits.clients} programs of one capsule.`,
      );
    // Among all is this one.
    if (
      this.underWay.size > limits.callsUnderWay ||
      client.callsUnderWay.size >= limits.callsUnderWayOfClient
    )
      return newError(call, errors.limit, 'Too many calls to services outside of the capsule are under way.');
    const outside = this.#outside[service.side];
    if (outside === undefined) return newError(call, errors.noReply, `There is no ${service.name}.`);
    const passage: Passage = {
      ...{ carried: this.#carried, service, client: client.name, call },
      exchange: (passed) => this.#exchange(service, outside, client, passed),
    };
    const answer = client.callsUnderWay.add(treatments[decision.treatment](passage));
    if (decision.treatment === 'notify') void this.notifying.add(answer);
    const reply = await answer;
    if (client.isOver) this.#carried.forgetClient(client.name);
    return reply;
  }

  async #exchange(service: Service, outside: OutsideBus, client: Client, call: Message): Promise<Message> {
    const bus = await client.connect(outside);
    const { sender, ...passed } = this.#clients.toOutside(client, call);
    // From here on they are the connection's.
    call.fds = [];
    const reply = await bus.exchange({ ...passed, destination: service.name });
    if (reply === undefined)
      return newError(call, errors.noReply, `${service.name} has ended, or its bus has.`);
    if (isTooLarge(reply)) {
      closeDescriptors(reply);
      return newError(call, errors.limit, `Torpor passes on no message larger than ${largestMessage} bytes.`);
    }
    return { ...this.#clients.toInside(reply, client), flags: noReplyExpected };
  }
}
