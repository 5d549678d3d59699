/** What is saved by itself as the computer shuts down, and whether it comes back at the log-in: the engine's own settings. */
import { saveEvents } from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';
import { useText } from '../texts/use-text.ts';
import { Section, SwitchRow } from './rows.tsx';

export function ShutdownSettings() {
  const { policy } = useAppState();
  const model = useModel();
  const say = useText();
  if (policy === undefined) return null;
  const { saveAt, jobs, restoreAtLogin, isTold } = policy;

  async function save(change: Promise<void>) {
    try {
      await change;
      model.announce(say('said.saved'));
    } catch (error) {
      model.fail(error);
    }
  }

  return (
    <Section
      title={say('settings.shutdown')}
      help={say(isTold ? 'settings.shutdown.help' : 'settings.shutdown.notTold')}
    >
      {saveEvents.map((event) => (
        <SwitchRow
          key={event}
          label={say(`settings.shutdown.${event}`)}
          isOn={saveAt.includes(event)}
          onChange={(on) => void save(model.bridge.call('policy.saveAt', event, on))}
        />
      ))}
      <SwitchRow
        label={say('settings.shutdown.jobs')}
        help={say('settings.shutdown.jobs.help')}
        isOn={jobs}
        onChange={(on) => void save(model.bridge.call('policy.set', { jobs: on }))}
      />
      <SwitchRow
        label={say('settings.shutdown.restore')}
        help={say('settings.shutdown.restore.help')}
        isOn={restoreAtLogin}
        onChange={(on) => void save(model.bridge.call('policy.set', { restoreAtLogin: on }))}
      />
    </Section>
  );
}
