import { describe, expect, it } from 'vitest';
import { aboveAll, catalogue, formats } from '../../engine/criu/catalogue.ts';
import { errorsIn, explain } from '../../engine/criu/log-errors.ts';

const log = (...messages: string[]) =>
  [
    '(00.000001) Version: 4.2.1 (gitid 0)',
    "(00.000100) Warn  (criu/kerndat.c:1103): Can't keep kdat cache on non-tempfs",
    '(00.000200) Error (criu/util.c:1): Unable to set RLIMIT_NOFILE: Operation not permitted',
    ...messages.map((message) => `(00.1)      12: Error (criu/some-file.c:123): ${message}`),
    '(00.200000) Error (criu/cr-dump.c:1975): Dumping FAILED.',
  ].join('\n');

const sentenceFor = (...messages: string[]) => explain(errorsIn(log(...messages)))?.sentence;

describe('CRIU’s log', () => {
  it('gives its errors without the harmless ones', () => {
    expect(errorsIn(log('Found dangling tty', 'Dump files (pid: 7) failed with -1'))).toEqual([
      'Found dangling tty',
      'Dump files (pid: 7) failed with -1',
    ]);
    expect(errorsIn(log())).toEqual([]);
    expect(explain([])).toBeUndefined();
  });

  it.each([
    [
      "Can't dump half of stream unix connection. name: (null); peer name: /run/user/1000/pulse/native",
      '/run/user/1000/pulse/native',
    ],
    ['unix: Found a closed in-flight socket to 0x12', 'has not accepted yet'],
    ['Found dangling tty with sid 88 pgid 88 (pts) on peer fd 0.', 'the terminal pts'],
    ["Can't dump ghost file /home/u/a file of 3145728 size, increase limit", '/home/u/a file, of 3 MiB'],
    ["Can't dump nested user namespace for 71", 'Process 71 runs in a user namespace'],
    ["Can't open file home/u/notes.txt on restore: No such file or directory", 'The file home/u/notes.txt'],
    ["Can't open file usr/lib/x.so: No such file or directory", 'The file usr/lib/x.so'],
    ['File home/u/log has bad size 12 (expect 10)', 'it had 10 bytes and has 12 now'],
    ["Can't fork for 4711: File exists", 'process number 4711'],
    ["Can't bind id 0x12 ino 77 addr /run/app/s: No such file or directory", 'Its socket /run/app/s'],
    ['Connected TCP socket, consider using --tcp-established option.', 'TCP connection'],
    ["Can't get rlimit 0: Operation not permitted", 'CAP_SYS_RESOURCE'],
    ["Magic doesn't match for pstree.img", 'pstree.img'],
    ['CPU instruction capabilities do not match run time', 'processor'],
    ['A session leader of 12(3) is outside of its pid namespace', 'Process 12'],
    // From logs of CRIU 4.2.1 on the fixtures of the ties.
    ['inet: Unsupported proto 262 for socket af10df', 'MPTCP'],
    ['inet: Unsupported proto 132 for socket af10df', 'protocol 132'],
    ['sockets: BUG! Unknown socket collected (family 40)', 'number 40'],
    ['netlink: The socket has data to read', 'has not read yet what the kernel told it'],
    ['unix: Non-empty write queue on an in-flight socket 0x9c37d8', 'has not accepted yet'],
    ['inet: In-flight connection (l) for 9bcff2', 'just being opened'],
    ["inet: Can't bind inet socket (id 16): Address already in use", 'address already in use'],
    ["inet: Can't create inet socket: Permission denied", 'permission denied'],
    ["Task 1134 with SysVIPC shmem map @7f5036373000 doesn't live in IPC ns", 'System V shared memory'],
    ["Can't lookup mount=21 for fd=3 path=/torpor-tie-1391", '/torpor-tie-1391'],
    ['Unknown shit 100600 (/secretmem (deleted))', 'memfd_secret'],
    ['tun: Net namespace is required to dump tun link', 'network interface of its own'],
    ["fsnotify: \tCan't dump that handle", 'inotify'],
    ['Dump eventpoll (pid: 2802) failed with -1', 'epoll'],
    ['No NS ID with kid 4026532223', 'handle of a sandbox'],
    ["Can't make FS id for 2124", 'Process 2124 has its memory or its working folder in common'],
    ["Can't make VM id for 15444", 'Process 15444'],
    ["Can't restore sub-task in NS (cflags 40000000)", 'sandbox'],
    ["Can't dump nested time_for_children namespace for 1934", 'Process 1934 runs in a time namespace'],
    ['Unseizable non-zombie 1994 found, state S, err -1/10', 'holds process 1994'],
    ["Can't handle non-regular mapping on 2648's map 7f4f98bf3000", 'maps a device'],
    ['pie: 2695: Error (criu/pie/parasite.c:588): send_fds failed (-22)', 'io_uring'],
    ["Can't dump file 3 of that type [600] (anon anon_inode:[userfaultfd])", 'anon anon_inode:[userfaultfd]'],
    ['Found slave peer index 4 without correspond master peer', 'pts/4'],
    ['Unresolved lock found pid 77 ino 12', 'lock'],
    ["unix: Can't dump half of stream unix connection. name: /tmp/own; peer name: (null)", '/tmp/own'],
    ['skqueue: Control messages in queue, not supported', 'who sent it'],
    ['Zombies with threads are not supported', 'main thread'],
    ["Can't dump task 77 running in 32-bit mode", 'Process 77 is a 32-bit program'],
    ["fsnotify: Can't add watch for 0x12 with 0x1: No space left on device", 'files watched for changes'],
    ["fsnotify: Can't create inotify for 0x00000012: Too many open files", 'files watched for changes'],
    ["Can't restore 7f0000000000 mapping with fffffffffffffff4", 'Not all of its memory'],
    ['unix: FATAL: Peer 12 unresolved for 13', 'had not accepted yet'],
  ])('is explained: %s', (message, expected) => {
    expect(sentenceFor(message)).toContain(expected);
  });

  it('is explained by its first cause, not by what followed', () => {
    expect(
      sentenceFor("Can't dump nested pid namespace for 71", "Can't open file x: No such file or directory"),
    ).toContain('namespace');
  });

  it('is explained by a full disk wherever that shows', () => {
    expect(sentenceFor("Can't dump nested pid namespace for 71", 'write: No space left on device')).toContain(
      'no space left',
    );
  });

  it('is passed on where it says something unknown', () => {
    expect(sentenceFor('Something entirely new')).toBe('CRIU says: Something entirely new.');
  });

  it('has a next step for everything, and only names that its messages give', () => {
    for (const { messages, sentence, hint } of [...aboveAll, ...catalogue]) {
      expect(sentence).toMatch(/\.$/);
      expect(hint, sentence).not.toBe('');
      for (const [, name, format] of sentence.matchAll(/\{(\w+)(?::(\w+))?\}/g)) {
        if (format !== undefined) expect(Object.keys(formats)).toContain(format);
        // One of its messages may say less.
        expect(messages.some(({ source }) => source.includes(`(?<${name}>`))).toBe(true);
      }
    }
  });

  it('leaves no gap where a message gives no name', () => {
    for (const { messages, sentence } of catalogue) {
      const names = Array.from(sentence.matchAll(/\{(\w+)/g), ([, name]) => name ?? '');
      for (const { source } of messages) for (const name of names) expect(source).toContain(`(?<${name}>`);
    }
  });
});
