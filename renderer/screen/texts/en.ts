/** English texts of the screen window. */
export const screenEn = {
  'screen.of': 'Screen of {title}',
  'screen.keys': 'Keyboard input for {title}. Control+Alt+Home opens the bar.',
  'screen.picture': 'Last picture of {title}',
  'screen.connecting': 'Connecting to the screen of {title} …',
  'screen.forbidden': 'You may not see the screen of {title}.',
  'screen.forbidden.hint':
    'It belongs to another user, or this window has lost its permission. Open it anew from Torpor.',
  'screen.unknown': 'There is no such application any more.',
  'screen.unknown.hint': 'It was forgotten, or its last snapshot was deleted. Start it again from Torpor.',
  'screen.home': 'Open Torpor',
  'screen.closeWindow': 'Close this window',

  'screen.engine': 'The engine does not answer.',
  'screen.engine.runs':
    'The application runs on. It can be suspended again when the engine is back, which is tried by itself.',

  'screen.suspended': '{title} is suspended',
  'screen.suspended.text': 'It uses no memory. It comes back exactly as you see it.',
  'screen.resume': 'Resume',
  'screen.suspending': 'Suspending {title} …',
  'screen.resuming': 'Resuming {title} …',

  'screen.ended': '{title} has ended.',
  'screen.ended.code': '{title} has ended with status {code}.',
  'screen.ended.signal': '{title} was ended by signal {signal}.',
  'screen.ended.snapshots': 'You can go back to one of its snapshots.',
  'screen.ended.nothing': 'Start it again from Torpor.',

  'screen.bar': 'Window of {title}',
  'screen.bar.open': 'Show the bar',
  'screen.bar.hide': 'Back to {title}',
  'screen.state.live': 'Running',
  'screen.state.connecting': 'Connecting …',
  'screen.state.suspended': 'Suspended',
  'screen.state.suspending': 'Suspending …',
  'screen.state.resuming': 'Resuming …',
  'screen.state.ended': 'Ended',
  'screen.windows': 'Windows',
  'screen.windows.none': 'It has no window open.',
  'screen.windows.untitled': 'Window without a title',
  'screen.fullscreen': 'Full screen',
  'screen.fullscreen.leave': 'Leave full screen',
  'screen.send': 'Send keys',
  'screen.suspend': 'Suspend',
  'screen.snapshot': 'Take a snapshot',
  'screen.close': 'Close',

  'screen.question.title': 'Close the window of {title}?',
  'screen.question.text': 'The application can go on without it.',
  'screen.question.leave': 'Leave it running',
  'screen.question.leave.text': 'Opens again from Torpor at any time.',
  'screen.question.suspend': 'Suspend to disk',
  'screen.question.suspend.text': 'Frees its memory and comes back as it is, also after a restart.',
  'screen.question.quit': 'Quit {title}',
  'screen.question.quit.text': 'What is not saved in it is lost.',
  'screen.question.stay': 'Go back',

  'screen.clipboard.asks':
    'What you copy elsewhere can be pasted here with Control+V. For the menus of {title}, the browser has to allow it.',
  'screen.clipboard.allow': 'Share the clipboard',
  'screen.clipboard.denied':
    'The browser does not let this window read the clipboard; Control+V works all the same.',
  'screen.clipboard.refused': '{title} has copied a text that the browser did not let through.',
  'screen.clipboard.copy': 'Copy it',
  'screen.snapshots': 'Snapshots',
  'screen.dismiss': 'Dismiss',
} as const;
