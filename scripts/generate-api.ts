/**
 * Makes api/engine1.ts, the typed form of the engine's interface, from its introspection XML. With `--check` it
 * writes nothing and fails where the file is not what the XML says.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { XMLParser } from 'fast-xml-parser';

interface XmlArg {
  '@name': string;
  '@type': string;
  '@direction'?: 'in' | 'out';
  annotation?: { '@value': string }[];
}
interface XmlMember {
  '@name': string;
  arg?: XmlArg[];
}
interface XmlInterface {
  '@name': string;
  method: XmlMember[];
  signal: XmlMember[];
}

const source = new URL('../api/io.github.torpor.Engine1.xml', import.meta.url);
const target = new URL('../api/engine1.ts', import.meta.url);

const xml = readFileSync(source, 'utf8');
const parsed = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  isArray: (name) => ['method', 'signal', 'arg', 'annotation', 'property'].includes(name),
}).parse(xml) as { node: { '@name': string; interface: XmlInterface } };
const definition = parsed.node.interface;

const dictionaries = new Set<string>();
const plain: Record<string, string> = {
  s: 'string',
  b: 'boolean',
  as: 'string[]',
  ay: 'Uint8Array',
  t: 'number',
  u: 'number',
};

function typeOf(arg: XmlArg): { ts: string; wire: string } {
  const signature = arg['@type'];
  const dictionary = arg.annotation?.[0]?.['@value'];
  if (dictionary !== undefined && (signature === 'a{sv}' || signature === 'aa{sv}')) {
    dictionaries.add(dictionary);
    const list = signature === 'aa{sv}' ? '[]' : '';
    return {
      ts: `${dictionary[0]?.toUpperCase()}${dictionary.slice(1)}${list}`,
      wire: `{ signature: '${signature}', schema: ${dictionary}Schema }`,
    };
  }
  const ts = plain[signature];
  if (ts === undefined) throw new Error(`${arg['@name']}: no TypeScript type for the signature ${signature}`);
  return { ts, wire: `{ signature: '${signature}' }` };
}

const camel = (name: string) => `${name[0]?.toLowerCase()}${name.slice(1)}`;

const methodTypes: string[] = [];
const methodTable: string[] = [];
for (const method of definition.method) {
  const args = method.arg ?? [];
  const inputs = args.filter((arg) => arg['@direction'] !== 'out');
  const outputs = args.filter((arg) => arg['@direction'] === 'out');
  if (outputs.length > 1) throw new Error(`${method['@name']}: at most one result`);
  const output = outputs[0] === undefined ? undefined : typeOf(outputs[0]);
  const parameters = inputs.map((arg) => `${arg['@name']}: ${typeOf(arg).ts}`).join(', ');
  methodTypes.push(`  ${camel(method['@name'])}(${parameters}): Promise<${output?.ts ?? 'void'}>;`);
  methodTable.push(
    `  ${camel(method['@name'])}: { member: '${method['@name']}', inputs: [${inputs.map((arg) => typeOf(arg).wire).join(', ')}]` +
      `${output === undefined ? '' : `, output: ${output.wire}`} },`,
  );
}
const signalTypes: string[] = [];
const signalTable: string[] = [];
for (const signal of definition.signal) {
  const arg = signal.arg?.[0];
  if (arg === undefined || signal.arg?.length !== 1)
    throw new Error(`${signal['@name']}: exactly one argument`);
  signalTypes.push(`  ${camel(signal['@name'])}: ${typeOf(arg).ts};`);
  signalTable.push(
    `  ${camel(signal['@name'])}: { member: '${signal['@name']}', argument: ${typeOf(arg).wire} },`,
  );
}

const names = [...dictionaries].sort();
const typeNames = names.map((name) => `type ${name[0]?.toUpperCase()}${name.slice(1)}`);
const output = `// Made by \`npm run generate\` from io.github.torpor.Engine1.xml; change that file, not this one.
import { ${[...typeNames, ...names.map((name) => `${name}Schema`)].join(', ')} } from './types.ts';
import type { MethodWire, SignalWire } from './wire.ts';

export const interfaceName = '${definition['@name']}';
export const objectPath = '${parsed.node['@name']}';

export interface EngineMethods {
${methodTypes.join('\n')}
}

export interface EngineSignals {
${signalTypes.join('\n')}
}

export const methods = {
${methodTable.join('\n')}
} as const satisfies Record<keyof EngineMethods, MethodWire>;

export const signals = {
${signalTable.join('\n')}
} as const satisfies Record<keyof EngineSignals, SignalWire>;

export const introspectionXml = ${JSON.stringify(xml)};
`;

const formatted = execFileSync('npx', ['biome', 'check', '--write', '--stdin-file-path=api/engine1.ts'], {
  input: output,
  encoding: 'utf8',
});
if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== formatted) {
    console.error('api/engine1.ts is not what the XML says: run `npm run generate` and commit it.');
    process.exit(1);
  }
} else {
  writeFileSync(target, formatted);
}
