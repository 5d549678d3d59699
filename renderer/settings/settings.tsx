/** Settings: each is saved as it is changed. */
import { useId } from 'react';
import { type Settings as AppSettings, mostKeptLast } from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';
import { Meter } from '../parts/meter.tsx';
import { chooseLanguage, ownNames } from '../texts/languages.ts';
import { useFigures, useText } from '../texts/use-text.ts';
import { Plugins } from './plugins.tsx';
import { ChoiceRow, NumberRow, Row, Section, SwitchRow } from './rows.tsx';
import { ShortcutField } from './shortcut-field.tsx';
import { ShutdownSettings } from './shutdown.tsx';

/** Where a limit begins when it is switched on, and the unit it is entered in. */
const firstLimitBytes = 20e9;
const gigabyte = 1e9;

export function Settings() {
  const { settings, engine, paused, shell, locale } = useAppState();
  const model = useModel();
  const say = useText();
  const limitId = useId();

  async function save(change: Partial<AppSettings>) {
    try {
      await model.bridge.call('settings.set', change);
      model.announce(say('said.saved'));
    } catch (error) {
      model.fail(error);
    }
  }
  const set = (change: Partial<AppSettings>) => void save(change);
  const pause = (on: boolean) =>
    void model.bridge.call('automation.pause', on).catch((error) => model.fail(error));

  const desktopLanguage = ownNames[chooseLanguage('system', locale).language];
  return (
    <>
      <header className="page-head">
        <h1>{say('settings.title')}</h1>
      </header>

      <Section title={say('settings.disk')}>
        <DiskUsage />
        <SwitchRow
          label={say('settings.limit')}
          help={say('settings.limit.help')}
          isOn={settings.diskLimitBytes > 0}
          onChange={(on) => set({ diskLimitBytes: on ? firstLimitBytes : 0 })}
        />
        {settings.diskLimitBytes > 0 && (
          <>
            <NumberRow
              id={limitId}
              label={say('settings.limit.size')}
              unit="GB"
              value={Math.max(1, Math.round(settings.diskLimitBytes / gigabyte))}
              min={1}
              max={100_000}
              wrong={say('settings.limit.wrong')}
              onChange={(value) => set({ diskLimitBytes: value * gigabyte })}
            />
            <ChoiceRow
              label={say('settings.removeFirst')}
              value={settings.removeFirst}
              choices={[
                { value: 'oldest', label: say('settings.removeFirst.oldest') },
                { value: 'largest', label: say('settings.removeFirst.largest') },
              ]}
              onChange={(removeFirst) => set({ removeFirst })}
            />
          </>
        )}
        <NumberRow
          label={say('settings.keepLast')}
          help={say('settings.keepLast.help')}
          unit={say('settings.keepLast.unit')}
          value={settings.intervalKeepLast}
          min={1}
          max={mostKeptLast}
          wrong={say('settings.keepLast.wrong')}
          onChange={(intervalKeepLast) => set({ intervalKeepLast })}
        />
      </Section>

      <Section title={say('settings.resume')}>
        <SwitchRow
          label={say('settings.eager')}
          help={say('settings.eager.help')}
          isOn={settings.resumeEagerly}
          onChange={(resumeEagerly) => set({ resumeEagerly })}
        />
        <SwitchRow
          label={say('settings.warm')}
          help={say('settings.warm.help')}
          isOn={settings.startWarm}
          onChange={(startWarm) => set({ startWarm })}
        />
      </Section>

      <Section title={say('settings.auto')}>
        <SwitchRow
          label={say('settings.paused')}
          help={say('settings.paused.help')}
          isOn={paused}
          onChange={pause}
        />
        <ChoiceRow
          label={say('settings.logout')}
          help={say('settings.logout.help')}
          value={settings.atLogout}
          choices={[
            { value: 'leave', label: say('settings.logout.leave') },
            { value: 'suspend', label: say('settings.logout.suspend') },
          ]}
          onChange={(atLogout) => set({ atLogout })}
        />
        <ChoiceRow
          label={say('settings.memory')}
          value={settings.atLowMemory}
          choices={[
            { value: 'nothing', label: say('settings.memory.nothing') },
            { value: 'ask', label: say('settings.memory.ask') },
            { value: 'suspend', label: say('settings.memory.suspend') },
          ]}
          onChange={(atLowMemory) => set({ atLowMemory })}
        />
        {settings.atLowMemory !== 'nothing' && (
          <NumberRow
            label={say('settings.memory.percent')}
            help={say('settings.memory.percent.help')}
            unit="%"
            value={settings.lowMemoryPercent}
            min={1}
            max={50}
            wrong={say('settings.memory.percent.wrong')}
            onChange={(lowMemoryPercent) => set({ lowMemoryPercent })}
          />
        )}
      </Section>

      <ShutdownSettings />
      <Section title={say('settings.start')}>
        <SwitchRow
          label={say('settings.startAtLogin')}
          help={shell.tray ? say('settings.startAtLogin.help') : say('settings.startAtLogin.noTray')}
          isOn={settings.startAtLogin}
          onChange={(startAtLogin) => set({ startAtLogin })}
        />
        <ShortcutField
          value={settings.suspendShortcut}
          canBeHad={shell.globalShortcut}
          onChange={(suspendShortcut) => set({ suspendShortcut })}
        />
        <ChoiceRow
          label={say('settings.language')}
          value={settings.language}
          choices={[
            { value: 'system', label: say('settings.language.system', { name: desktopLanguage }) },
            { value: 'en', label: ownNames.en, lang: 'en' },
            { value: 'de', label: ownNames.de, lang: 'de' },
          ]}
          onChange={(language) => set({ language })}
        />
      </Section>
      <Plugins />
      {engine.kind === 'ready' && (
        <p className="quiet about">{say('settings.about', { version: engine.version })}</p>
      )}
    </>
  );
}

function DiskUsage() {
  const { engine, diskBytes, diskFreeBytes, settings } = useAppState();
  const say = useText();
  const figures = useFigures();
  const limit = settings.diskLimitBytes;
  const used = figures.bytes(diskBytes);
  const free = figures.bytes(diskFreeBytes);
  const text =
    limit > 0
      ? say('settings.usage.limit', { used, free, limit: figures.bytes(limit) })
      : say('settings.usage', { used, free });
  const whole = limit > 0 ? limit : diskBytes + diskFreeBytes;
  return (
    <Row label={say('settings.place')} help={say('settings.place.help')}>
      <div className="disk-usage">
        {engine.kind === 'ready' && <code>{engine.stateDir}</code>}
        <Meter
          role="meter"
          name={say('settings.usage.name')}
          share={whole > 0 ? diskBytes / whole : 0}
          text={text}
        />
        <p className="meta">{text}</p>
      </div>
    </Row>
  );
}
