/**
 * Clocks and timers in CRIU's images, moved on by the time that a workload stood still. CRIU notes of each timer how much
 * was left, also of one that was set to a moment, and of the clocks of a time namespace what they showed. Fields are those
 * of images/timens.proto, timerfd.proto, timer.proto and core.proto of CRIU 4.2; what is not changed stays byte for byte.
 */
import { fileEntry, rewriteImage } from '../../proto/images.ts';
import { decode, encode, message, rawFields, required, withFields } from '../../proto/wire.ts';

/** How much less timers have left, in nanoseconds. */
export interface TimeGone {
  /** Of those that are set to a time of the day. Less than nothing where the date was put back: they have more left. */
  wall: bigint;
  /** Of all others. */
  own: bigint;
}

const nanosecondsPerSecond = 1_000_000_000n;
const microsecondsPerSecond = 1_000_000n;
/** Numbers of time.h. Those of them that count time, and not what a processor has done. */
const clock = {
  realtime: 0,
  monotonic: 1,
  boottime: 7,
  realtimeAlarm: 8,
  boottimeAlarm: 9,
  tai: 11,
} as const;
const timeClocks = new Set<number>(Object.values(clock));
const timesOfDay = new Set<number>([clock.realtime, clock.realtimeAlarm, clock.tai]);
/** TFD_TIMER_ABSTIME */
const setToMoment = 1;

const monotonicOfTimens = 1;
const boottimeOfTimens = 2;
const timespec = message('timespec', { seconds: required(1, 'uint64'), nanoseconds: required(2, 'uint64') });

/** `timens-N.img` whose clocks show this much more. */
export function moveClocks(image: Buffer, nanoseconds: bigint): Buffer {
  return rewriteImage('timens', image, (entry) =>
    withFields(entry, 'timens_entry', (number, content) => {
      if (number !== monotonicOfTimens && number !== boottimeOfTimens) return undefined;
      const shown = decode(timespec, content);
      const now = shown.seconds * nanosecondsPerSecond + shown.nanoseconds + nanoseconds;
      return encode(timespec, {
        seconds: now / nanosecondsPerSecond,
        nanoseconds: now % nanosecondsPerSecond,
      });
    }),
  );
}

/** Where a timer has what is left of it. */
const timeLeft = (name: string, seconds: number, fraction: number) =>
  message(name, { seconds: required(seconds, 'uint64'), fraction: required(fraction, 'uint64') });

const timerfdOfFileEntry = 12;
const timerfd = message('timerfd_entry', { clock: required(4, 'uint32'), setFlags: required(6, 'uint32') });
const timerfdLeft = timeLeft('timerfd_entry', 7, 8);

/** `files.img` in which timers of descriptors have this much less left. */
export function moveTimerDescriptors(image: Buffer, { wall, own }: TimeGone): Buffer {
  return rewriteImage('files', image, (entry) => {
    if (decode(fileEntry, entry).timerfd === undefined) return entry;
    return withFields(entry, 'file_entry', (number, content) => {
      if (number !== timerfdOfFileEntry) return undefined;
      const set = decode(timerfd, content);
      const isTimeOfDay = timesOfDay.has(set.clock) && (set.setFlags & setToMoment) !== 0;
      const gone = isTimeOfDay ? wall : timeClocks.has(set.clock) ? own : 0n;
      return gone === 0n ? undefined : withLessLeft(content, timerfdLeft, nanosecondsPerSecond, gone);
    });
  });
}

const taskOfCore = 3;
const timersOfTask = 7;
const realOfTimers = 1;
const posixOfTimers = 4;
const intervalTimerLeft = timeLeft('itimer_entry', 3, 4);
const posixTimer = message('posix_timer_entry', { clock: required(2, 'uint32') });
const posixTimerLeft = timeLeft('posix_timer_entry', 9, 10);

/**
 * `core-PID.img` in which the process's own timers have this much less left. Which of them were set to a time of the day
 * neither the image nor the kernel says.
 */
export function moveProcessTimers(image: Buffer, nanoseconds: bigint): Buffer {
  const timers = (number: number, content: Buffer) => {
    if (number === realOfTimers)
      return withLessLeft(content, intervalTimerLeft, microsecondsPerSecond, nanoseconds);
    if (number !== posixOfTimers || !timeClocks.has(decode(posixTimer, content).clock)) return undefined;
    return withLessLeft(content, posixTimerLeft, nanosecondsPerSecond, nanoseconds);
  };
  const task = (number: number, content: Buffer) =>
    number === timersOfTask ? withFields(content, 'task_timers_entry', timers) : undefined;
  return rewriteImage('core', image, (entry) =>
    withFields(entry, 'core_entry', (number, content) =>
      number === taskOfCore ? withFields(content, 'task_core_entry', task) : undefined,
    ),
  );
}

/** A timer with so much less left, or more where that is less than nothing, but never with nothing, which would be one that is not set. */
function withLessLeft(
  timer: Buffer,
  entry: ReturnType<typeof timeLeft>,
  perSecond: bigint,
  nanoseconds: bigint,
): Buffer {
  const was = decode(entry, timer);
  const left = was.seconds * perSecond + was.fraction;
  if (left === 0n) return timer;
  const rest = left - (nanoseconds * perSecond) / nanosecondsPerSecond;
  const now = rest > 0n ? rest : 1n;
  const { seconds, fraction } = entry.fields;
  const others = Array.from(rawFields(timer, entry.name)).filter(
    ({ number }) => number !== seconds.number && number !== fraction.number,
  );
  return Buffer.concat([
    ...others.map(({ whole }) => whole),
    encode(entry, { seconds: now / perSecond, fraction: now % perSecond }),
  ]);
}
