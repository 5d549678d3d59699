/** A client of a test's engine that has subscribed to its signals. */
import { connectEngine, type EngineClient, readEngineAddress } from '../../api/client.ts';
import type { TestEngine } from './engine.ts';

/** Connects to the engine, which must be running. */
export async function clientOf(engine: TestEngine): Promise<EngineClient> {
  const address = await readEngineAddress(engine.paths);
  if (address === undefined) throw new Error('the engine does not run');
  const client = await connectEngine(address.address);
  await client.subscribe();
  return client;
}
