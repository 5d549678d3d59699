/** An engine that dumps the process given, and is killed together with its CRIU: engine.ts PID IMAGES. */
import { makeClient } from '../criu-fixture.ts';

const [pid = '', imagesDir = ''] = process.argv.slice(2);
const { LD_PRELOAD_OF_CRIU, CGROUP, ...env } = process.env;
await makeClient({ env: { ...env, LD_PRELOAD: LD_PRELOAD_OF_CRIU } }).dump({
  pid: Number(pid),
  imagesDir,
  logFile: 'dump.log',
  leaveRunning: true,
  ...(CGROUP === undefined ? {} : { freezeCgroup: CGROUP }),
});
