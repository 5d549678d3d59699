import { describe, expect, it } from 'vitest';
import { parseEntry } from '../../engine/plugin-host/entry.ts';
import { orderOf } from '../../engine/plugin-host/order.ts';

const file = '/etc/torpor/plugins/x.service';
const places = { '@NODE@': '/opt/a b/node', '@BUILD@': '/srv/$& "c' };
const own = { places, environment: { ELECTRON_RUN_AS_NODE: '1' } };
const entry = (...lines: string[]) => parseEntry(['[D-BUS Service]', ...lines].join('\n'), file, own);

describe('a plugin’s service file', () => {
  it('is read as D-Bus has it, with keys of Torpor’s own', () => {
    const text =
      "# x\n[Other]\nName=no\n[D-BUS Service]\n\nName = org.example.X\nExec=/bin/x \"a b\" 'c\"d' e\\ f ''\n";
    expect(
      parseEntry(`${text}X-Torpor-Policy=required\nX-Torpor-Resident=true\nUser=root`, file, own),
    ).toEqual({
      name: 'org.example.X',
      exec: ['/bin/x', 'a b', 'c"d', 'e f', ''],
      environment: {},
      isOwn: false,
      policy: 'required',
      isResident: true,
      file,
    });
  });

  it.each([
    [['Exec=/x'], 0, 'the key Name is missing'],
    [['Name=org.example.X'], 0, 'the key Exec is missing'],
    [['Name=x', 'Exec=/x'], 2, '"x" is no bus name'],
    [['Name=org.example.X', 'Exec=x'], 3, 'Exec must begin with an absolute path'],
    [['Name=org.example.X', 'Exec=/x "'], 3, 'a quote in Exec is not closed'],
    [
      ['Name=org.example.X', 'Exec=/x', 'X-Torpor-Policy=maybe'],
      4,
      'X-Torpor-Policy is optional or required',
    ],
    [['Name=org.example.X', 'Exec=/x', 'X-Torpor-Resident=yes'], 4, 'X-Torpor-Resident is true or false'],
    [['Name=org.example.X', 'Exec=/x=y'], 3, 'Exec must begin with an absolute path'],
    [['Name=org.example.X\u0000', 'Exec=/x'], 0, 'it has control characters in it'],
    [['what'], 2, 'a line of the form Key=Value was expected'],
    [[`Name=${'x'.repeat(20_000)}`], 0, 'it is larger than 16384 bytes'],
  ])('is refused by line and reason: %j', (lines, line, what) => {
    expect(entry(...lines)).toMatchObject({ file, line, what: expect.stringContaining(what) });
  });

  it('has places filled in, spaces and all, and then runs what is Torpor’s own', () => {
    expect(entry('Name=org.example.X', 'Exec=@NODE@ @BUILD@/x.mjs --at=@BUILD@')).toMatchObject({
      exec: ['/opt/a b/node', '/srv/$& "c/x.mjs', '--at=/srv/$& "c'],
      environment: own.environment,
      isOwn: true,
    });
    expect(entry('Name=org.example.X', 'Exec=/usr/bin/node x.mjs')).toMatchObject({
      environment: {},
      isOwn: false,
    });
  });

  it('is known to be of a required plugin also where it is broken', () => {
    expect(entry('Name=org.example.X', 'X-Torpor-Policy=required')).toMatchObject({
      required: 'org.example.X',
    });
    expect(entry('X-Torpor-Policy = required', 'what')).toMatchObject({ required: 'a plugin' });
    expect(entry('Name=org.example.X')).not.toHaveProperty('required');
    expect(parseEntry('', file, own)).toMatchObject({ what: 'it has no group [D-BUS Service]' });
  });
});

describe('the order of plugins', () => {
  const plugin = (name: string, ...after: string[]) => ({ name, description: { after } });
  const names = (levels: { name: string }[][]) => levels.map((level) => level.map(({ name }) => name));

  it('has each after those that it comes after', () => {
    const { levels, refused } = orderOf(
      [plugin('c', 'a', 'b'), plugin('b', 'a'), plugin('a'), plugin('d')],
      ['a', 'b', 'c', 'd'],
    );
    expect(names(levels)).toEqual([['a', 'd'], ['b'], ['c']]);
    expect(refused).toEqual([]);
  });

  it('leaves out what waits for an unknown one or in a circle, and what waits for neither is called', () => {
    const all = [plugin('a', 'x'), plugin('b', 'c'), plugin('c', 'b'), plugin('d', 'a')];
    const { levels, refused } = orderOf(all, ['a', 'b', 'c', 'd']);
    expect(names(levels)).toEqual([['d']]);
    expect(refused.map(({ plugin: { name }, why }) => [name, why])).toEqual([
      ['a', 'it comes after x, and there is no such plugin'],
      ['b', 'it comes after c, in a circle'],
      ['c', 'it comes after b, in a circle'],
    ]);
  });

  it('does not wait for what is there and is not called', () => {
    expect(names(orderOf([plugin('a', 'silent')], ['a', 'silent']).levels)).toEqual([['a']]);
  });
});
