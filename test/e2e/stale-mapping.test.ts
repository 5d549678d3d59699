/**
 * A mapping that lies where another file's was when somebody looked: Linux then tells CRIU the other one's open flags.
 * Firefox and Thunderbird could not be resumed for that, one time in three.
 */
import { lstat, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { TestEngine } from '../support/engine.ts';

/** Maps a memory file read-only, waits to be told, maps another one writable there, and counts in it. */
const program = `
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
READ, WRITE, SHARED, FIXED = 1, 2, 1, 16
first, second = os.memfd_create("first"), os.memfd_create("second")
for file in (first, second): os.ftruncate(file, 4096)
reading = os.open("/proc/self/fd/%d" % first, os.O_RDONLY)
at = libc.mmap(None, 4096, READ, SHARED, reading, 0)
def tell(name, text):
    with open(name + ".new", "w") as file: file.write(str(text))
    os.rename(name + ".new", name)
tell("range", "%x-%x" % (at, at + 4096))
while not os.path.exists("go"): time.sleep(0.05)
libc.mmap(at, 4096, READ | WRITE, SHARED | FIXED, second, 0)
number = ctypes.c_uint.from_address(at)
while True:
    number.value += 1
    tell("count", number.value)
    time.sleep(0.05)
`;

async function told(file: string, above = 0): Promise<string> {
  for (let round = 0; round < 200; round++) {
    const text = await readFile(file, 'utf8').catch(() => '');
    if (text !== '' && (above === 0 || Number(text) > above)) return text;
    await sleep(50);
  }
  throw new Error(`${file} says nothing new`);
}

it('resumes what has a writable mapping where a read-only one was seen', async () => {
  await using engine = await TestEngine.create();
  const home = await mkdtemp('/var/tmp/torpor-home-');
  try {
    await writeFile(join(home, 'program.py'), program);
    const command = ['xterm', '-e', 'sh', '-c', `cd ${home} && exec /usr/bin/python3 program.py`];
    const workload = await engine.start(command, '--env', `HOME=${home}`);
    const range = await told(join(home, 'range'));
    const modes = async () => {
      const { pids } = await engine.workload(workload.id);
      const links = pids.map((pid) => lstat(`/proc/${pid}/map_files/${range}`).catch(() => undefined));
      return (await Promise.all(links)).flatMap((link) => (link === undefined ? [] : [link.mode & 0o600]));
    };
    expect(await modes()).toEqual([0o400]);
    await writeFile(join(home, 'go'), '');
    await told(join(home, 'count'));

    await engine.json('suspend', workload.id);
    const counted = Number(await readFile(join(home, 'count'), 'utf8'));
    await engine.json('resume', workload.id);
    expect(Number(await told(join(home, 'count'), counted))).toBeGreaterThan(counted);
    expect(await modes(), 'it is writable as it was').toEqual([0o600]);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
});
