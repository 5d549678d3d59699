/* The windows of the application in a capsule, by the Extended Window Manager Hints. */
#ifndef TORPOR_WINDOWS_H
#define TORPOR_WINDOWS_H

/*
 * Does what these words ask for, on this display:
 *   list           prints a line of JSON {"id","title","class","active"} a window, the oldest first
 *   activate ID    brings a window to the front and gives it the keyboard
 *   close          asks each window to close, as its close button would
 *   icon ID        prints {"width","height","pixels"} of the largest icon up to 256 pixels, a pixel as aarrggbb; or {}
 * Returns 0, or 3 where there is no such window; dies where the X server does not answer.
 */
int ask_of_windows(unsigned int display, char *const *request);

#endif
