/**
 * How long an inspection takes: of a tree of 20 processes with 500 descriptors, of as many as a desktop has, and of every
 * process of this machine, as `torpor inspect 1` would ask for it. Prints medians; takes no part in the tests, whose times depend on
 * what else the machine does.
 */
import { enginePaths } from '../../api/paths.ts';
import { inspectTree } from '../../engine/inspect/inspect.ts';
import { findInstallation } from '../../engine/installation.ts';
import { Tie } from '../integration/inspect-fixture.ts';
import { markdownTable, median } from './figures.ts';

const rounds = 9;
const { sockdiag, ties } = findInstallation();
const stateDir = enginePaths('/var/tmp').stateDir;

async function measure(
  root: number,
): Promise<{ wall: number; cpu: number; processes: number; descriptors: number }> {
  const walls: number[] = [];
  const cpus: number[] = [];
  let [processes, descriptors] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const cpu = process.cpuUsage();
    const startedAt = performance.now();
    const { facts } = await inspectTree(root, { isCapsule: false, cgroupPids: [], stateDir, sockdiag, ties });
    walls.push(performance.now() - startedAt);
    const { user, system } = process.cpuUsage(cpu);
    cpus.push((user + system) / 1000);
    processes = facts.processes.length;
    descriptors = facts.processes.reduce((sum, each) => sum + each.descriptors.length, 0);
  }
  return { wall: median(walls), cpu: median(cpus), processes, descriptors };
}

const rows: string[][] = [];
const row = (name: string, { wall, cpu, processes, descriptors }: Awaited<ReturnType<typeof measure>>) =>
  rows.push([name, `${processes}`, `${descriptors}`, `${wall.toFixed(0)} ms`, `${cpu.toFixed(0)} ms`]);
{
  await using crowd = await Tie.hold('Crowd');
  row('a tree', await measure(crowd.insider));
}
{
  await using desktop = await Tie.hold('Desktop');
  row('as many as a desktop has', await measure(desktop.insider));
}
row('every process of this machine', await measure(1));
console.log(
  markdownTable(['of', 'processes', 'descriptors', 'median', 'of that, the engine computes'], rows),
);
