/** German texts of the screen window. */
import type { ScreenCatalogue } from './catalogue.ts';

export const screenDe: ScreenCatalogue = {
  'screen.of': 'Bildschirm von {title}',
  'screen.keys': 'Tastatureingabe für {title}. Strg+Alt+Pos1 öffnet die Leiste.',
  'screen.terminal': 'Terminal von {title}',
  'screen.picture': 'Letztes Bild von {title}',
  'screen.connecting': 'Verbindung zum Bildschirm von {title} wird aufgebaut …',
  'screen.forbidden': 'Sie dürfen den Bildschirm von {title} nicht sehen.',
  'screen.forbidden.hint':
    'Die Anwendung gehört jemand anderem, oder dieses Fenster hat seine Erlaubnis verloren. Öffnen Sie es neu aus Torpor.',
  'screen.unknown': 'Diese Anwendung gibt es nicht mehr.',
  'screen.unknown.hint':
    'Sie wurde vergessen, oder ihre letzte Momentaufnahme wurde gelöscht. Starten Sie sie neu aus Torpor.',
  'screen.home': 'Torpor öffnen',
  'screen.closeWindow': 'Fenster schließen',

  'screen.engine': 'Die Engine antwortet nicht.',
  'screen.engine.runs':
    'Die Anwendung läuft weiter. Schlafen gelegt werden kann sie wieder, wenn die Engine zurück ist; das wird von selbst versucht.',

  'screen.napping': '{title} döst',
  'screen.napping.text': 'Es läuft weiter, sobald Sie in diesem Fenster sind.',
  'screen.wake': 'Wecken',
  'screen.suspended': '{title} schläft',
  'screen.suspended.text': 'Es belegt keinen Speicher und kommt genau so wieder, wie Sie es sehen.',
  'screen.resume': 'Aufwecken',
  'screen.suspending': '{title} wird schlafen gelegt …',
  'screen.resuming': '{title} wird aufgeweckt …',

  'screen.ended': '{title} ist beendet.',
  'screen.ended.code': '{title} ist mit Status {code} beendet.',
  'screen.ended.signal': '{title} wurde durch Signal {signal} beendet.',
  'screen.ended.snapshots': 'Sie können zu einer Momentaufnahme zurückgehen.',
  'screen.ended.nothing': 'Starten Sie es neu aus Torpor.',

  'screen.bar': 'Fenster von {title}',
  'screen.bar.open': 'Leiste zeigen',
  'screen.bar.hide': 'Zurück zu {title}',
  'screen.state.live': 'Läuft',
  'screen.state.connecting': 'Verbindet …',
  'screen.state.suspended': 'Schläft',
  'screen.state.suspending': 'Wird schlafen gelegt …',
  'screen.state.resuming': 'Wird aufgeweckt …',
  'screen.state.ended': 'Beendet',
  'screen.windows': 'Fenster',
  'screen.windows.none': 'Es hat kein Fenster offen.',
  'screen.windows.untitled': 'Fenster ohne Titel',
  'screen.fullscreen': 'Vollbild',
  'screen.fullscreen.leave': 'Vollbild verlassen',
  'screen.send': 'Tasten senden',
  'screen.suspend': 'Schlafen legen',
  'screen.snapshot': 'Momentaufnahme machen',
  'screen.close': 'Schließen',

  'screen.question.title': 'Das Fenster von {title} schließen?',
  'screen.question.text': 'Die Anwendung kann ohne es weiterlaufen.',
  'screen.question.leave': 'Weiterlaufen lassen',
  'screen.question.leave.text': 'Das Fenster lässt sich jederzeit aus Torpor wieder öffnen.',
  'screen.question.suspend': 'Auf die Platte schlafen legen',
  'screen.question.suspend.text': 'Gibt den Speicher frei und kommt so wieder, auch nach einem Neustart.',
  'screen.question.quit': '{title} beenden',
  'screen.question.quit.text': 'Was darin nicht gespeichert ist, geht verloren.',
  'screen.question.stay': 'Zurück',

  'screen.clipboard.asks':
    'Was Sie anderswo kopieren, lässt sich hier mit Strg+V einfügen. Für die Menüs von {title} muss es der Browser erlauben.',
  'screen.clipboard.allow': 'Zwischenablage teilen',
  'screen.clipboard.denied':
    'Der Browser lässt dieses Fenster die Zwischenablage nicht lesen; Strg+V geht trotzdem.',
  'screen.clipboard.refused': '{title} hat einen Text kopiert, den der Browser nicht durchgelassen hat.',
  'screen.clipboard.copy': 'Kopieren',
  'screen.snapshots': 'Momentaufnahmen',
  'screen.dismiss': 'Schließen',
};
