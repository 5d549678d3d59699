/**
 * What went wrong, in a user's words. CRIU says it in its log only: the error of its response is the first line that
 * looked like one, mostly a harmless one. The catalogue maps the messages of CRIU 4.2 that users meet to a sentence
 * and a next step; a message that is not in it is passed on as it is.
 */

/** A cause in plain words and what to do about it. */
export interface Explanation {
  sentence: string;
  hint: string;
}

interface Known {
  pattern: RegExp;
  explain: (match: RegExpExecArray) => Explanation;
}

const said = (sentence: string, hint: string) => () => ({ sentence, hint });

/** A full disk shows as many different errors, so it is looked for before anything else. */
const aboveAll: readonly Known[] = [
  {
    pattern: /No space left on device|Disk quota exceeded/,
    explain: said(
      'There is no space left on the disk that holds the snapshots.',
      'Free some space (`torpor snapshots`, `torpor rm SNAPSHOT`) and try again.',
    ),
  },
  {
    pattern: /Cannot allocate memory/,
    explain: said('There is not enough free memory.', 'Close something else and try again.'),
  },
];

const catalogue: readonly Known[] = [
  {
    pattern: /Can't get rlimit/,
    explain: said(
      'The limits of another user’s process cannot be read, because root lacks CAP_SYS_RESOURCE on this machine.',
      'Build the native programs with `npm start`: their preload library mends this.',
    ),
  },
  {
    pattern: /Connected TCP socket, consider using|Connected TCP socket in image/,
    explain: said(
      'It has a TCP connection open, which cannot be kept.',
      'End the connection (a download, a remote session), or suspend it with its connections closed.',
    ),
  },
  {
    pattern: /Timeout reached/,
    explain: said('A process of it did not stop in time.', 'Try again in a moment.'),
  },
  {
    pattern: /In-flight connection|Non-empty write queue on an in-flight socket/,
    explain: said('A connection was just being opened.', 'Try again in a moment.'),
  },
  {
    pattern: /Can't dump half of stream unix connection\. name: (.*); peer name: (.*)/,
    explain: ([, own = '', peer = '']) => ({
      sentence: `It is connected to a program outside through the socket ${[peer, own].find((name) => name !== '' && name !== '(null)') ?? 'without a name'}.`,
      hint: 'End that connection, or start the application in a capsule (`torpor run`), which brings its own services.',
    }),
  },
  {
    pattern: /External socket is used|Can't dump name-less external socket|External socket found in image/,
    explain: said(
      'It is connected to a program outside through a socket.',
      'Start the application in a capsule (`torpor run`), which brings its own services.',
    ),
  },
  {
    pattern: /Unix socket \d+ with(?:out peer|\s+unreachable peer) \d+/,
    explain: said(
      'It is connected to a program outside through a socket.',
      'End that connection, or start the application in a capsule (`torpor run`).',
    ),
  },
  {
    pattern: /Found dangling tty with sid (\d+) pgid \d+ \((.*?)\)/,
    explain: ([, , terminal = 'a terminal']) => ({
      sentence: `It uses the terminal ${terminal}, which belongs to a program outside.`,
      hint: 'Suspend it from that terminal, or start it in a capsule (`torpor run`).',
    }),
  },
  {
    pattern: /A session leader of (?:zombie process )?(\d+)\(\d+\) is outside of its pid namespace/,
    explain: ([, pid = '']) => ({
      sentence: `Process ${pid} belongs to a session that was started from outside.`,
      hint: 'Commands put into a capsule from outside (`torpor exec`) must end first.',
    }),
  },
  {
    pattern: /The root process (\d+) is not a session leader/,
    explain: ([, pid = '']) => ({
      sentence: `Process ${pid} was started from a terminal and shares its session.`,
      hint: 'Suspend it as a job of that terminal, or start it with setsid.',
    }),
  },
  {
    pattern: /Can't dump ghost file (.*) of (\d+) size, increase limit/,
    explain: ([, path = '', bytes = '0']) => ({
      sentence: `It has a deleted file open, ${path}, of ${Math.ceil(Number(bytes) / 1048576)} MiB, which is too large to be taken along.`,
      hint: 'Let the application close that file and try again.',
    }),
  },
  {
    pattern: /Can't dump nested (\w+) namespace for (\d+)/,
    explain: ([, kind = '', pid = '']) => ({
      sentence: `Process ${pid} runs in a ${kind} namespace of its own, such as a browser’s sandbox makes.`,
      hint: 'Start the application without that sandbox; `torpor inspect` says how for the ones it knows.',
    }),
  },
  {
    pattern: /Can't create link remap for (.*?)\. /,
    explain: ([, path = '']) => ({
      sentence: `The deleted file ${path} is still open and cannot be kept.`,
      hint: 'Let the application close that file and try again.',
    }),
  },
  {
    pattern: /Can't dump file (\d+) of that type \[\d+\] ?\(?(.*?)\)?$/,
    explain: ([, fd = '', kind = '']) => ({
      sentence: `It has something open that cannot be saved: descriptor ${fd} (${kind}).`,
      hint: '`torpor inspect` shows which process holds it.',
    }),
  },
  {
    pattern: /Can't lookup mount=\S+ for fd=\S+ path=(.*)/,
    explain: ([, path = '']) => ({
      sentence: `It has ${path} open, which lies on a file system that it cannot see itself.`,
      hint: 'Let the application close that file and try again.',
    }),
  },
  {
    pattern:
      /Mount \d+:(\S+) is autodetected external mount|FS mnt (\S+) dev|(\S+) doesn't have a proper root mount/,
    explain: ([, ...paths]) => ({
      sentence: `The file system at ${paths.find((path) => path !== undefined) ?? ''} came in from outside and is not known to the engine.`,
      hint: 'Unmount it inside the application’s capsule and try again.',
    }),
  },
  {
    pattern: /No mapping for \d+:(.*) mountpoint/,
    explain: ([, path = '']) => ({
      sentence: `The file system that was mounted at ${path} is not here.`,
      hint: 'Mount it at the same place and resume again.',
    }),
  },
  {
    pattern: /Unable to freeze cgroup/,
    explain: said(
      'It did not come to a standstill in time, probably because it waits for a slow disk or network folder.',
      'Try again when that is done.',
    ),
  },
  {
    pattern: /Can't handle non-regular mapping|Unsupported mapping found|Strange file mapped/,
    explain: said(
      'It maps a device or another kind of memory that cannot be saved.',
      'Start it without hardware acceleration and try again.',
    ),
  },
  {
    pattern: /Can't open file (.*) on restore: (.*)|Can't open file (.*): (No such file or directory)/,
    explain: ([, first, firstWhy, second, secondWhy]) => ({
      sentence: `The file ${first ?? second ?? ''}, which it had open, cannot be opened: ${(firstWhy ?? secondWhy ?? '').toLowerCase()}.`,
      hint: 'Put the file back in its place and resume again.',
    }),
  },
  {
    pattern: /File (.*) has bad size (\d+) \(expect (\d+)\)/,
    explain: ([, path = '', now = '', then = '']) => ({
      sentence: `The file ${path} has changed since: it had ${then} bytes and has ${now} now.`,
      hint: 'Put the former file back in its place (for a program or library: its former package) and resume again.',
    }),
  },
  {
    pattern: /File (.*) has bad (?:mode|build-ID)/,
    explain: ([, path = '']) => ({
      sentence: `The file ${path} is another one than when it was suspended.`,
      hint: 'Put the former file back in its place (for a program or library: its former package) and resume again.',
    }),
  },
  {
    pattern: /Can't fork for (\d+): File exists|Pid \d+ do not match expected (\d+)/,
    explain: ([, first, second]) => ({
      sentence: `Its process number ${first ?? second ?? ''} is in use by another process.`,
      hint: 'Wait until that process has ended and resume again.',
    }),
  },
  {
    pattern: /Can't create ghost (\w+): File exists/,
    explain: said(
      'A resume that was cut short has left a file behind that is in the way now.',
      'Remove the files whose names end with .ghost in the folders the application was working in, and resume again.',
    ),
  },
  {
    pattern: /Can't bind id \S+ ino \d+ addr (.*): (.*)/,
    explain: ([, path = '', why = '']) => ({
      sentence: `Its socket ${path} cannot be made again: ${why.toLowerCase()}.`,
      hint: 'Make the folder of the socket, owned by the user, and resume again.',
    }),
  },
  {
    pattern: /Can't bind inet socket .*: (.*)|Can't connect inet socket back/,
    explain: ([, why = 'no connection']) => ({
      sentence: `A network socket of it cannot be opened again: ${why.toLowerCase()}.`,
      hint: 'End the program that uses the same port now and resume again. Where none does, wait a minute: for so long the kernel keeps the port of a connection that was just closed.',
    }),
  },
  {
    pattern:
      /CPU instruction capabilities do not match|is not supported on host|xfeatures has unsupported bits|xsave size mismatch/,
    explain: said(
      'It was suspended on a machine whose processor can do what this one cannot.',
      'Resume it on the machine it came from, or on one with a similar processor.',
    ),
  },
  {
    pattern: /Core march mismatch/,
    explain: said(
      'It was suspended on a machine with another kind of processor.',
      'Resume it on a machine with the same architecture.',
    ),
  },
  {
    pattern: /(?:Magic|Head magic) doesn't match for (\S+)/,
    explain: ([, file = '']) => ({
      sentence: `The snapshot is damaged: ${file} is not what it should be.`,
      hint: 'Check the disk, and the snapshot with `torpor verify`.',
    }),
  },
  {
    pattern: /[Ii]mage corrupt|Unexpected EOF|Images corrupted|corrupted image/,
    explain: said('The snapshot is damaged.', 'Check the disk, and the snapshot with `torpor verify`.'),
  },
  {
    pattern: /The --root option is required/,
    explain: said('The snapshot was made from a capsule and needs its root folder.', ''),
  },
  {
    pattern: /iptables|nftables|Unable to lock network|Locking network failed/,
    explain: said(
      'Its network connections could not be held still.',
      'Load the kernel module nf_tables (`modprobe nf_tables`) and try again.',
    ),
  },
  {
    pattern: /The criu itself is within dumped tree/,
    explain: said('The engine itself runs within it.', 'Start the engine from elsewhere.'),
  },
  {
    pattern: /A root task is dead|No process with pid|Unable to (?:attach|seize)|No such process/,
    explain: said('It ended while it was being suspended.', ''),
  },
  {
    pattern: /Unexpected error for pid|couldn't seize|PTRACE_SEIZE/i,
    explain: said(
      'Another program, such as a debugger, holds one of its processes.',
      'End that program and try again.',
    ),
  },
];

/** Errors by name that stop nothing: what CRIU reports on the way on machines with few capabilities. */
const harmless =
  /RLIMIT_NOFILE|rlimit NOFILE|Dumping FAILED|Restoring FAILED|Killing processes because of failure|action scripts failed|RPC client reported script error/;

const errorLine = /\bError \(([^)]*)\): (.*)$/;

/** The messages of CRIU's errors in a log, without time, place and those that mean nothing; in their order. */
export function errorsIn(log: string): string[] {
  const errors: string[] = [];
  for (const line of log.split('\n')) {
    const message = errorLine.exec(line)?.[2]?.trim();
    if (message && !harmless.test(message)) errors.push(message);
  }
  return errors;
}

function firstKnown(errors: readonly string[], among: readonly Known[]): Explanation | undefined {
  for (const message of errors) {
    for (const { pattern, explain } of among) {
      const match = pattern.exec(message);
      if (match !== null) return explain(match);
    }
  }
  return undefined;
}

/** The likeliest cause. @param errors as {@link errorsIn} gives them. @returns undefined where there are none. */
export function explain(errors: readonly string[]): Explanation | undefined {
  const known = firstKnown(errors, aboveAll) ?? firstKnown(errors, catalogue);
  if (known !== undefined) return known;
  const [first] = errors;
  if (first === undefined) return undefined;
  return {
    sentence: `CRIU says: ${first.replace(/\.?$/, '.')}`,
    hint: 'The log beside the failure says more.',
  };
}
