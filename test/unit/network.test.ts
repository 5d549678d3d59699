import { describe, expect, it } from 'vitest';
import { isSameNetwork, recordedWay, type Way, waysIn, waysInIpv6 } from '../../engine/network/network.ts';

const head = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
const arp = `IP address       HW type     Flags       HW address            Mask     Device
192.168.1.1      0x1         0x2         02:00:00:00:00:01     *        eth0
192.168.1.9      0x1         0x0         00:00:00:00:00:00     *        eth0
`;
const route = (name: string, destination: string, gateway: string, mask: string) =>
  `${name}\t${destination}\t${gateway}\t0003\t0\t0\t0\t${mask}\t0\t0\t0\n`;

describe('the ways out', () => {
  it('are gateways with their hardware address, where that is known, or interfaces', () => {
    const table =
      head +
      route('eth0', '00000000', '0101A8C0', '00000000') +
      route('eth0', '0001A8C0', '00000000', '00FFFFFF') +
      route('eth0', '00000000', '0901A8C0', '00000000') +
      route('tun0', '00000000', '00000000', '00000000');
    expect(waysIn(table, arp, (name) => [`${name} 10.0.0.1/24`])).toEqual([
      { kind: 'gateway', address: '192.168.1.1', hardware: '02:00:00:00:00:01' },
      { kind: 'gateway', address: '192.168.1.9', hardware: undefined },
      { kind: 'interface', addresses: ['tun0 10.0.0.1/24'] },
    ]);
    expect(waysIn('', '', () => [])).toEqual([]);
  });

  it('are those of IPv6, too, without what leads nowhere', () => {
    const zeros = '0'.repeat(32);
    const gateway = `fe80${'0'.repeat(27)}1`;
    const lines = [
      `${zeros} 00 ${zeros} 00 ${gateway} 00000400 00000001 00000000 00000003     eth0`,
      `${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo`,
      `fe80${'0'.repeat(28)} 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001     eth0`,
    ];
    expect(waysInIpv6(lines.join('\n'))).toEqual([
      { kind: 'gateway', address: gateway, hardware: undefined },
    ]);
  });
});

describe('two networks', () => {
  const way = (address: string, hardware?: string): Way => ({ kind: 'gateway', address, hardware });
  const recorded = (...ways: Way[]) => ways.map((each) => recordedWay(each, 'salt'));
  it.each<[boolean, string, Way[], Way[]]>([
    [true, 'without a way out', [], []],
    [false, 'of which one has none', [way('10.0.0.1')], []],
    [true, 'with one way in common', [way('10.0.0.1', 'a'), way('10.9.9.9')], [way('10.0.0.1', 'a')]],
    [true, 'where nobody has been asked yet', [way('10.0.0.1', 'a')], [way('10.0.0.1')]],
    [false, 'that look the same and are not', [way('10.0.0.1', 'a')], [way('10.0.0.1', 'b')]],
    [false, 'with other gateways', [way('10.0.0.1')], [way('10.0.0.2')]],
  ])('are the same: %s (%s)', (same, _what, then, now) => {
    expect(isSameNetwork(recorded(...then), recorded(...now))).toBe(same);
  });

  it('are not to be told from what is kept', () => {
    const kept = recordedWay(way('10.0.0.1', '02:00:00:00:00:01'), 'salt');
    expect(JSON.stringify(kept)).not.toContain('10.0.0.1');
    expect(kept).not.toEqual(recordedWay(way('10.0.0.1', '02:00:00:00:00:01'), 'other'));
  });
});
