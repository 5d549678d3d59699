/**
 * The keys to the app's loopback server. A token stands in an address and is good for one exchange into a session; a
 * session is what the cookie holds. Only digests are kept, so that neither a comparison nor a dump of memory gives one away.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const secretBytes = 32;
/** How long an address that was made for a window of ours, which opens at once, may wait. */
const waitMs = 60_000;
/** Each is made by a program that the user has started; more are a defect or an attack. */
const mostSessions = 1000;

const digest = (secret: string) => createHash('sha256').update(secret).digest();
const newSecret = () => randomBytes(secretBytes).toString('base64url');

export class Keys {
  readonly #tokens = new Map<Buffer, { until: number }>();
  readonly #sessions: Buffer[] = [];
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @param lasting it was shown to the user, who may take a while; otherwise it is good for a minute. */
  newToken({ lasting }: { lasting: boolean }): string {
    this.#forget();
    const token = newSecret();
    this.#tokens.set(digest(token), { until: lasting ? Number.POSITIVE_INFINITY : this.#now() + waitMs });
    return token;
  }

  newSession(): string {
    if (this.#sessions.length >= mostSessions) this.#sessions.shift();
    const session = newSecret();
    this.#sessions.push(digest(session));
    return session;
  }

  /** Uses a token up. @returns the session it opens, or undefined where it opens none any more */
  exchange(token: string): string | undefined {
    this.#forget();
    const given = digest(token);
    const found = [...this.#tokens.keys()].filter((known) => timingSafeEqual(known, given))[0];
    if (found === undefined) return undefined;
    this.#tokens.delete(found);
    return this.newSession();
  }

  isSession(session: string): boolean {
    const given = digest(session);
    return this.#sessions.filter((known) => timingSafeEqual(known, given)).length > 0;
  }

  #forget(): void {
    const now = this.#now();
    for (const [token, { until }] of this.#tokens) if (until < now) this.#tokens.delete(token);
  }
}
