/*
 * For criu-plugin.test.ts: counts into the file that is its argument, connected to the abstract address of that name.
 * Writes how far it is, whether it is connected, and whether it has read an end.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int connected = 0, ended = 0;
	char text[64], byte;
	if (argc != 2 || strlen(argv[1]) > sizeof(address.sun_path) - 2)
		return 1;
	strcpy(address.sun_path + 1, argv[1]);
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(argv[1]));
	int end = socket(AF_UNIX, SOCK_STREAM, 0);
	int file = open(argv[1], O_RDWR);
	for (int number = 1;; number++) {
		connected = connected || connect(end, (struct sockaddr *)&address, length) == 0;
		ended = connected && recv(end, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
		snprintf(text, sizeof(text), "%09d %d %d\n", number, connected, ended);
		if (pwrite(file, text, strlen(text), 0) < 0)
			return 1;
		usleep(10000);
	}
}
