/**
 * Makes the typed forms of the engine's interface and of that of plugins (api/engine1.ts, api/plugin1.ts) from their
 * introspection XML. With `--check` it writes nothing and fails where a file is not what the XML says.
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
  signal?: XmlMember[];
}

interface Contract {
  /** File names in api/: the XML, what is made from it, and where the types of its dictionaries are. */
  xml: string;
  target: string;
  types: string;
  /** What its types are called after. */
  prefix: string;
}

const contracts: readonly Contract[] = [
  { xml: 'io.github.torpor.Engine1.xml', target: 'engine1.ts', types: './types.ts', prefix: 'Engine' },
  { xml: 'io.github.torpor.Plugin1.xml', target: 'plugin1.ts', types: './plugin-types.ts', prefix: 'Plugin' },
];

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  isArray: (name) => ['method', 'signal', 'arg', 'annotation', 'property'].includes(name),
});

const plain: Record<string, string> = {
  s: 'string',
  b: 'boolean',
  as: 'string[]',
  ay: 'Uint8Array',
  t: 'number',
  u: 'number',
};

function typeOf(arg: XmlArg, dictionaries: Set<string>): { ts: string; wire: string } {
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

/** The module for one contract, not yet formatted. */
function moduleOf(contract: Contract, xml: string): string {
  const parsed = parser.parse(xml) as { node: { '@name': string; interface: XmlInterface } };
  const definition = parsed.node.interface;
  const dictionaries = new Set<string>();
  const methodTypes: string[] = [];
  const methodTable: string[] = [];
  for (const method of definition.method) {
    const args = method.arg ?? [];
    const inputs = args.filter((arg) => arg['@direction'] !== 'out');
    const outputs = args.filter((arg) => arg['@direction'] === 'out');
    if (outputs.length > 1) throw new Error(`${method['@name']}: at most one result`);
    const output = outputs[0] === undefined ? undefined : typeOf(outputs[0], dictionaries);
    const parameters = inputs.map((arg) => `${arg['@name']}: ${typeOf(arg, dictionaries).ts}`).join(', ');
    methodTypes.push(`  ${camel(method['@name'])}(${parameters}): Promise<${output?.ts ?? 'void'}>;`);
    methodTable.push(
      `  ${camel(method['@name'])}: { member: '${method['@name']}', inputs: [${inputs.map((arg) => typeOf(arg, dictionaries).wire).join(', ')}]` +
        `${output === undefined ? '' : `, output: ${output.wire}`} },`,
    );
  }
  const signalTypes: string[] = [];
  const signalTable: string[] = [];
  for (const signal of definition.signal ?? []) {
    const arg = signal.arg?.[0];
    if (arg === undefined || signal.arg?.length !== 1)
      throw new Error(`${signal['@name']}: exactly one argument`);
    signalTypes.push(`  ${camel(signal['@name'])}: ${typeOf(arg, dictionaries).ts};`);
    signalTable.push(
      `  ${camel(signal['@name'])}: { member: '${signal['@name']}', argument: ${typeOf(arg, dictionaries).wire} },`,
    );
  }

  const hasSignals = signalTypes.length > 0;
  const { prefix } = contract;
  const signalInterface = hasSignals
    ? `export interface ${prefix}Signals {\n${signalTypes.join('\n')}\n}\n\n`
    : '';
  const signalMap = hasSignals
    ? `export const signals = {\n${signalTable.join('\n')}\n} as const satisfies Record<keyof ${prefix}Signals, SignalWire>;\n\n`
    : '';
  const names = [...dictionaries].sort();
  const typeNames = names.map((name) => `type ${name[0]?.toUpperCase()}${name.slice(1)}`);
  return `// Made by \`npm run generate\` from ${contract.xml}; change that file, not this one.
import { ${[...typeNames, ...names.map((name) => `${name}Schema`)].join(', ')} } from '${contract.types}';
import type { MethodWire${hasSignals ? ', SignalWire' : ''} } from './wire.ts';

export const interfaceName = '${definition['@name']}';
export const objectPath = '${parsed.node['@name']}';

export interface ${contract.prefix}Methods {
${methodTypes.join('\n')}
}

${signalInterface}export const methods = {
${methodTable.join('\n')}
} as const satisfies Record<keyof ${contract.prefix}Methods, MethodWire>;

${signalMap}export const introspectionXml = ${JSON.stringify(xml)};
`;
}

const isCheck = process.argv.includes('--check');
for (const contract of contracts) {
  const xml = readFileSync(new URL(`../api/${contract.xml}`, import.meta.url), 'utf8');
  const target = new URL(`../api/${contract.target}`, import.meta.url);
  const formatted = execFileSync(
    'npx',
    ['biome', 'check', '--write', `--stdin-file-path=api/${contract.target}`],
    {
      input: moduleOf(contract, xml),
      encoding: 'utf8',
    },
  );
  if (!isCheck) writeFileSync(target, formatted);
  else if (readFileSync(target, 'utf8') !== formatted) {
    console.error(`api/${contract.target} is not what the XML says: run \`npm run generate\` and commit it.`);
    process.exitCode = 1;
  }
}
