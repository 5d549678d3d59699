/** Streams of chunks are checked to the last field: a bundle that cannot be read must not come of a mistake. */
import { expect, it } from 'vitest';
import { type Item, readItems } from '../../engine/bundle/medium/stream.ts';
import { chunkOf, fileStream, item, listOf, noise, number32 } from '../support/bundle.ts';

async function itemsOf(stream: Buffer, partBytes = 1000): Promise<Item[]> {
  async function* parts() {
    for (let at = 0; at < stream.length; at += partBytes) yield stream.subarray(at, at + partBytes);
  }
  const items: Item[] = [];
  await readItems(parts(), (each) => {
    items.push(each.kind === 'chunk' ? { ...each, payload: Buffer.from(each.payload) } : each);
    return undefined;
  });
  return items;
}

it.each([1, 7, 4096, 1_000_000])('comes in parts of %i bytes', async (partBytes) => {
  const stream = Buffer.concat([
    fileStream(noise(1, 70_000)),
    item('E', number32(0, 2), Buffer.from('gone')),
  ]);
  const items = await itemsOf(stream, partBytes);
  expect(items.map(({ kind }) => kind)).toEqual(['chunk', 'chunk', 'list', 'error']);
  expect(items[0]).toMatchObject({ pages: 16, codec: 0 });
  expect(items[2]).toMatchObject({ bytes: 70_000 });
  expect(items[3]).toMatchObject({ errno: 2, what: 'gone' });
});

const chunk = (fields: number[], bytes: number) =>
  item('C', noise(2, 32), Buffer.from(fields), Buffer.alloc(bytes));

it.each([
  ['an unknown kind', item('X', Buffer.alloc(50))],
  ['a kind that is none of its own', item('P', Buffer.alloc(50))],
  ['bytes behind the kind', Buffer.from([0x43, 1, 0, 0, 50, 0, 0, 0])],
  ['no pages', chunk([0, 0, 0, 0], 10)],
  ['too many pages', chunk([1, 17, 0, 0], 100)],
  ['another codec', chunk([3, 1, 0, 0], 10)],
  ['flags', chunk([2, 1, 1, 0], 10)],
  ['a raw chunk that is short', chunk([0, 1, 0, 0], 4095)],
  ['a compressed chunk that is longer than it was', chunk([2, 1, 0, 0], 4097)],
  ['nothing stored', chunk([2, 1, 0, 0], 0)],
  ['a list without its ids', listOf(4096, Buffer.alloc(32), [chunkOf(noise(1, 4096)).id]).subarray(0, -32)],
  ['a list of another count', item('L', number32(0, 2), Buffer.alloc(40), Buffer.alloc(32))],
  ['a list of too many bytes', item('L', number32(0, 0), Buffer.alloc(8, 0xff), Buffer.alloc(32))],
  ['an end in a head', fileStream(noise(1, 5000)).subarray(0, 5)],
  ['an end in a payload', fileStream(noise(1, 5000)).subarray(0, -1)],
])('is refused with %s', async (_name, stream) => {
  await expect(itemsOf(stream)).rejects.toThrow(expect.objectContaining({ name: 'StreamError' }));
});
