import { describe, expect, it } from 'vitest';
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
});
