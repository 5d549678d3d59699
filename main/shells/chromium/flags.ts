/** How Chromium is started, so that it shows our pages and does nothing else. */

/** Features of a browser for the web that have nothing to do in a window of an application. */
const withoutFeatures = [
  'AutofillServerCommunication',
  'CertificateTransparencyComponentUpdater',
  'DialMediaRouteProvider',
  'GlobalMediaControls',
  'MediaRouter',
  'OptimizationHints',
  'PasswordManagerOnboarding',
  'Translate',
];

export interface ChromiumFlags {
  profile: string;
  /** Chromium refuses to run as root with its sandbox. */
  isRoot: boolean;
  /** More, from the user. */
  extra: readonly string[];
}

/** What the first process and those that hand it a window must have in common. */
export function chromiumFlags({ profile, isRoot, extra }: ChromiumFlags): string[] {
  return [
    `--user-data-dir=${profile}`,
    // By which desktops group windows and find the entry with the icon (its StartupWMClass).
    '--class=Torpor',
    '--ozone-platform-hint=auto',
    '--no-first-run',
    '--no-default-browser-check',
    '--no-pings',
    '--no-service-autorun',
    '--noerrdialogs',
    '--hide-crash-restore-bubble',
    '--disable-background-networking',
    '--disable-breakpad',
    '--disable-client-side-phishing-detection',
    '--disable-component-extensions-with-background-pages',
    '--disable-component-update',
    '--disable-default-apps',
    '--disable-domain-reliability',
    '--disable-extensions',
    '--disable-quic',
    '--disable-search-engine-choice-screen',
    '--disable-sync',
    '--disable-translate',
    '--metrics-recording-only',
    // Nothing secret is stored, so no keyring is asked for.
    '--password-store=basic',
    `--disable-features=${withoutFeatures.join(',')}`,
    // The second one only keeps the warning about the first out of the window; it is in the log.
    ...(isRoot ? ['--no-sandbox', '--test-type'] : []),
    ...extra,
  ];
}

/** Preferences of a new profile: no bubbles about passwords, addresses or translations. */
export const firstPreferences = {
  credentials_enable_service: false,
  credentials_enable_autosignin: false,
  autofill: { profile_enabled: false, credit_card_enabled: false },
  translate: { enabled: false },
  // The desktop's own title bar, as every other window has it.
  browser: { custom_chrome_frame: false, check_default_browser: false },
  search: { suggest_enabled: false },
  signin: { allowed: false },
  safebrowsing: { enabled: false },
};
