/* As much of the X11 protocol as pid 1 needs: is a window manager there, and how many windows does it manage? */
#ifndef TORPOR_X11_H
#define TORPOR_X11_H

/* The path socket of display :0. */
#define X_SOCKET "/tmp/.X11-unix/X0"

struct x_state {
	int has_window_manager;
	int client_windows;
};

/*
 * Connects to display :0, asks, and leaves. Each step has a time limit of two seconds.
 * Returns 0, or -1 where the server does not answer.
 */
int ask_x_server(struct x_state *state);

#endif
