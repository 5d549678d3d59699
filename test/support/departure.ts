/** A jump to another kernel, as its record shows it to the engine that starts after it. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Departure } from '../../engine/kexec/departure.ts';

/** As the engine leaves it when the machine jumps, with the boot that it left over by now. */
export async function depart(
  stateDir: string,
  session: string,
  change: Partial<Departure> = {},
): Promise<void> {
  const took = { checkMs: 1100, loadMs: 200, saveMs: 3000 };
  const departure: Departure = {
    ...{ version: 1, boot: 'another', from: '6.1.0-1', to: '6.12.0-1', phase: 'jumping', session, took },
    earlier: [],
    ...change,
  };
  await writeFile(join(stateDir, 'kexec.json'), JSON.stringify(departure));
}
