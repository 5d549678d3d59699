/**
 * What is put aside by itself: before it is turned on, what that would have gained today; then the rules, the applications they
 * are about, and what was done.
 */
import { useEffect, useId, useState } from 'react';
import {
  longestIdleMinutes,
  type MemoryPolicy,
  type PolicyAction,
  type PolicyView,
  policyActions,
  policyModes,
} from '../../main/ipc/policy-view.ts';
import { useAppState, useModel } from '../model.ts';
import { ChoiceRow, NumberRow, Row, Section, SwitchRow } from '../settings/rows.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { History } from './history.tsx';

export function Automatic() {
  const { settings } = useAppState();
  const model = useModel();
  const say = useText();
  const view = usePolicyView();
  const policy = settings.memoryPolicy;

  async function save(change: Promise<void>) {
    try {
      await change;
      model.announce(say('said.saved'));
    } catch (error) {
      model.fail(error);
    }
  }
  const set: Set = (change) => void save(model.bridge.call('memoryPolicy.set', change));
  const choose = (application: string, action: PolicyAction) =>
    void save(model.bridge.call('memoryPolicy.rule', application, action));

  return (
    <>
      <header className="page-head">
        <h1>{say('nav.automatic')}</h1>
      </header>
      <p>{say('automatic.about')}</p>
      {view !== undefined && policy.mode === 'off' && <Today view={view} />}
      <Section title={say('automatic.whether')}>
        <ChoiceRow
          label={say('automatic.mode')}
          help={say(`automatic.mode.${policy.mode}.help`)}
          value={policy.mode}
          choices={policyModes.map((value) => ({ value, label: say(`automatic.mode.${value}`) }))}
          onChange={(mode) => set({ mode })}
        />
      </Section>
      <When policy={policy} view={view} set={set} />
      {view !== undefined && <Rules view={view} choose={choose} />}
      {view !== undefined && <History entries={view.history} />}
    </>
  );
}

/** What it would have gained, for who has not decided yet. */
function Today({ view: { today } }: { view: PolicyView }) {
  const say = useText();
  const figures = useFigures();
  const text =
    today.gainBytes === 0 || today.at === undefined
      ? say('automatic.today.nothing')
      : say('automatic.today.gain', {
          bytes: figures.bytes(today.gainBytes),
          time: figures.time(today.at),
          count: today.applications,
        });
  return (
    <Section title={say('automatic.today')}>
      <Row label={text} help={say('automatic.today.help')}>
        {null}
      </Row>
    </Section>
  );
}

type Set = (change: Partial<Omit<MemoryPolicy, 'rules'>>) => void;

function When({ policy, view, set }: { policy: MemoryPolicy; view: PolicyView | undefined; set: Set }) {
  const say = useText();
  const idleId = useId();
  const batteryId = useId();
  const minutes = {
    unit: say('automatic.minutes'),
    min: 0,
    max: longestIdleMinutes,
    wrong: say('automatic.minutes.wrong', { most: longestIdleMinutes }),
  };
  return (
    <Section
      title={say('automatic.when')}
      {...(view?.knowsWindows === false ? { help: say('automatic.noWindows') } : {})}
    >
      <NumberRow
        {...minutes}
        id={idleId}
        label={say('automatic.idle')}
        help={say('automatic.idle.help')}
        value={policy.idleMinutes}
        onChange={(idleMinutes) => set({ idleMinutes })}
      />
      {view?.knowsPower && (
        <NumberRow
          {...minutes}
          id={batteryId}
          label={say('automatic.battery')}
          value={policy.batteryIdleMinutes}
          onChange={(batteryIdleMinutes) => set({ batteryIdleMinutes })}
        />
      )}
      <SwitchRow
        label={say('automatic.pressure')}
        help={view?.pressureProblem ?? say('automatic.pressure.help')}
        isOn={policy.atPressure}
        onChange={(atPressure) => set({ atPressure })}
      />
      <SwitchRow
        label={say('automatic.minimise')}
        isOn={policy.onMinimise}
        onChange={(onMinimise) => set({ onMinimise })}
      />
      {view?.knowsPower && (
        <SwitchRow
          label={say('automatic.lid')}
          isOn={policy.atLidClose}
          onChange={(atLidClose) => set({ atLidClose })}
        />
      )}
      {view?.knowsSleep && (
        <SwitchRow
          label={say('automatic.sleep')}
          isOn={policy.beforeSleep}
          onChange={(beforeSleep) => set({ beforeSleep })}
        />
      )}
    </Section>
  );
}

/** One row for each application: what is to be done with it. */
function Rules({
  view,
  choose,
}: {
  view: PolicyView;
  choose: (application: string, action: PolicyAction) => void;
}) {
  const say = useText();
  return (
    <Section title={say('automatic.rules')} help={say('automatic.rules.help')}>
      {view.applications.length === 0 && <Row label={say('automatic.rules.none')}>{null}</Row>}
      {view.applications.map(({ application, title, action, isCapsule, isInFront, isNapping }) => (
        <ChoiceRow
          key={application}
          label={title}
          help={say(
            isNapping
              ? 'automatic.state.naps'
              : isInFront
                ? 'automatic.state.front'
                : 'automatic.state.waits',
          )}
          value={action}
          choices={policyActions
            .filter((each) => each !== 'suspend' || isCapsule || action === 'suspend')
            .map((value) => ({ value, label: say(`automatic.action.${value}`) }))}
          onChange={(chosen) => choose(application, chosen)}
        />
      ))}
    </Section>
  );
}

/** Asked with every change of the app's state, which comes every few seconds while a window is open. */
function usePolicyView(): PolicyView | undefined {
  const model = useModel();
  const state = useAppState();
  const [view, setView] = useState<PolicyView>();
  // biome-ignore lint/correctness/useExhaustiveDependencies: another state is what it waits for
  useEffect(() => {
    let isWanted = true;
    model.bridge
      .call('memoryPolicy.view')
      .then((found) => isWanted && setView(found))
      // Where it cannot be asked the connection's own sentence says so.
      .catch(() => {});
    return () => {
      isWanted = false;
    };
  }, [model, state]);
  return view;
}
