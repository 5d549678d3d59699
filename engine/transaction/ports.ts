/**
 * The ports at which a suspended application listened: for a minute the kernel keeps what is left of connections to them
 * (TIME_WAIT, tcp(7)), and until then nobody can listen there again, the resumed application neither.
 */
import { runCommand } from '../command.ts';
import type { Facts } from '../inspect/facts.ts';
import type { Logger } from '../log.ts';

/** The TCP ports at which the tree listens. */
export function listeningPorts({
  processes,
  internetSockets,
}: Pick<Facts, 'processes' | 'internetSockets'>): number[] {
  const open = processes.flatMap(({ descriptors }) =>
    descriptors.flatMap((each) => (each.kind === 'socket' ? (internetSockets.get(each.inode) ?? []) : [])),
  );
  const listening = open.filter(({ state, protocol }) => state === 'listening' && protocol.startsWith('tcp'));
  return [...new Set(listening.map(({ local }) => Number(local.slice(local.lastIndexOf(':') + 1))))];
}

/** Ends what is left of connections to these ports, once the application has ended. Never throws: a minute does it too. */
export async function freePorts(program: string, facts: Facts, log: Logger): Promise<void> {
  const ports = listeningPorts(facts);
  if (ports.length === 0) return;
  try {
    const { status, stderr } = await runCommand(program, ports.map(String));
    if (status !== 0) log.warn({ ports, stderr }, 'the ports are free within a minute only');
  } catch (error) {
    log.warn({ err: error, ports }, 'the ports are free within a minute only');
  }
}
