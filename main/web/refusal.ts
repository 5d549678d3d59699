/** The page that is shown instead of a blank one where an address is refused: a sentence and the next step. */
import { createHash } from 'node:crypto';
import { securityHeaders } from './headers.ts';

export type Refusal =
  | 'used-token'
  | 'no-session'
  | 'wrong-host'
  | 'wrong-origin'
  | 'method'
  | 'not-found'
  | 'defect';

const statuses: Record<Refusal, number> = {
  'used-token': 403,
  'no-session': 403,
  'wrong-host': 403,
  'wrong-origin': 403,
  method: 405,
  'not-found': 404,
  defect: 500,
};

interface Text {
  title: string;
  sentence: string;
  hint: string;
}

const again = {
  en: 'Run “torpor ui” again, or “torpor ui --browser”, which prints a new address.',
  de: 'Rufen Sie „torpor ui“ noch einmal auf, oder „torpor ui --browser“, das eine neue Adresse ausgibt.',
};

const texts: Record<'en' | 'de', Record<Refusal, Text>> = {
  en: {
    'used-token': {
      title: 'This address does not open Torpor any more',
      sentence:
        'It has been used already, has expired, or was not copied whole: each address opens Torpor once.',
      hint: again.en,
    },
    'no-session': {
      title: 'This browser is not let in',
      sentence: 'Torpor shows your applications only to a browser that was opened with an address it gave.',
      hint: again.en,
    },
    'wrong-host': {
      title: 'This address is not Torpor’s',
      sentence: 'Torpor answers on this machine only, as 127.0.0.1 or localhost with its own port.',
      hint: 'From another machine, forward the port with “ssh -L” under the same number.',
    },
    'wrong-origin': {
      title: 'Another page has asked for this',
      sentence: 'Torpor answers its own pages only.',
      hint: 'If you did not expect this, close the page that you came from.',
    },
    method: {
      title: 'Torpor does not take this',
      sentence: 'Pages can only be read here.',
      hint: 'Open Torpor’s window and do it there.',
    },
    'not-found': {
      title: 'There is no such page',
      sentence: 'Torpor has nothing under this address.',
      hint: 'Open Torpor’s first page.',
    },
    defect: {
      title: 'Torpor could not show this',
      sentence: 'Something went wrong in Torpor itself; your applications are not touched by it.',
      hint: 'Load the page again. The app’s log says what happened.',
    },
  },
  de: {
    'used-token': {
      title: 'Diese Adresse öffnet Torpor nicht mehr',
      sentence:
        'Sie wurde schon benutzt, ist abgelaufen oder nicht vollständig kopiert: Jede Adresse öffnet Torpor einmal.',
      hint: again.de,
    },
    'no-session': {
      title: 'Dieser Browser hat keinen Zugang',
      sentence:
        'Torpor zeigt Ihre Anwendungen nur einem Browser, der mit einer von Torpor ausgegebenen Adresse geöffnet wurde.',
      hint: again.de,
    },
    'wrong-host': {
      title: 'Diese Adresse gehört nicht zu Torpor',
      sentence:
        'Torpor antwortet nur auf diesem Rechner, als 127.0.0.1 oder localhost mit seinem eigenen Port.',
      hint: 'Leiten Sie von einem anderen Rechner aus den Port mit „ssh -L“ unter derselben Nummer weiter.',
    },
    'wrong-origin': {
      title: 'Das kam von einer anderen Seite',
      sentence: 'Torpor antwortet nur seinen eigenen Seiten.',
      hint: 'Wenn Sie das nicht erwartet haben, schließen Sie die Seite, von der Sie kommen.',
    },
    method: {
      title: 'Das nimmt Torpor nicht an',
      sentence: 'Seiten können hier nur gelesen werden.',
      hint: 'Öffnen Sie das Fenster von Torpor und tun Sie es dort.',
    },
    'not-found': {
      title: 'Diese Seite gibt es nicht',
      sentence: 'Torpor hat nichts unter dieser Adresse.',
      hint: 'Öffnen Sie die erste Seite von Torpor.',
    },
    defect: {
      title: 'Torpor konnte das nicht zeigen',
      sentence: 'In Torpor selbst ging etwas schief; Ihre Anwendungen sind davon nicht berührt.',
      hint: 'Laden Sie die Seite neu. Was geschah, steht im Protokoll der App.',
    },
  },
};

const style = [
  ':root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}',
  'body{min-height:100vh;margin:0;display:grid;place-content:center;padding:2rem;box-sizing:border-box}',
  'main{max-width:32rem}h1{font-size:1.4rem;line-height:1.25;margin:0 0 .75rem}p{margin:0 0 .75rem}',
].join('');
const styleHash = `'sha256-${createHash('sha256').update(style).digest('base64')}'`;

/** The first language of the browser that there are texts in; English where there is none. */
function languageOf(acceptLanguage: string): 'en' | 'de' {
  const wanted = acceptLanguage.split(',').map((part) => part.trim().slice(0, 2).toLowerCase());
  return wanted.find((language) => language === 'en' || language === 'de') === 'de' ? 'de' : 'en';
}

/** @param acceptLanguage what the browser says of its user's languages */
export function refusal(kind: Refusal, acceptLanguage = ''): Response {
  const language = languageOf(acceptLanguage);
  const { title, sentence, hint } = texts[language][kind];
  return new Response(
    `<!doctype html><html lang="${language}"><meta charset="utf-8">` +
      `<meta name="viewport" content="width=device-width, initial-scale=1"><title>${title} – Torpor</title>` +
      `<style>${style}</style><main><h1>${title}</h1><p>${sentence}</p><p>${hint}</p></main></html>\n`,
    {
      status: statuses[kind],
      headers: {
        ...securityHeaders(styleHash),
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        ...(kind === 'method' ? { allow: 'GET, HEAD' } : {}),
      },
    },
  );
}
