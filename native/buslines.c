/*
 * torpor-buslines: a connection to a D-Bus message bus that outlives a suspend. Runs as the user whose connection it is.
 *
 *   torpor-buslines learn PATH
 *     Prints what the bus knows of all its connections: "connection UNIQUE PID", "name NAME UNIQUE", "match UNIQUE RULE",
 *     and "rules known" where it tells match rules. Ends without them where a bus tells more than any has to tell.
 *   torpor-buslines stand PATH UNIQUE
 *     Stands between a program, which has the unique name UNIQUE and had its connection before, and the bus: takes on a
 *     connection of its own what the lines of standard input say ("name NAME", "match RULE", and "owner NAME UNIQUE"
 *     for whom the program knows, "unread HEX" for what it had not read yet; at last "end"). Prints "lost NAME" for a
 *     name that another program has, "refused NAME" and "unmatched RULE" for what the bus does not give, and
 *     "ready FD" with the program's end, which it keeps open until its standard input ends. Then it carries messages and descriptors, with the two unique names changed for each
 *     other, until either side hangs up.
 *
 * Neither side is trusted: a message has a limit, no more than one is held for each direction, and nothing is read while the
 * other side does not take what there is.
 */
#include "common.h"
#include "dbus.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BUS "org.freedesktop.DBus"
#define STATS BUS ".Debug.Stats"
#define SET_UP_SECONDS 15
#define READ_AT_ONCE (64 * 1024)
/* Of a bus with hundreds of programs that listen to hundreds of things each, `learn` prints a tenth of it. */
#define LEARNT_LIMIT (4 * 1024 * 1024)
/* What arrives while a connection is set up. */
#define HELD_LIMIT (8 * 1024 * 1024)
/* SCM_MAX_FD of the kernel; the bus's own limit for one message is lower. */
#define MOST_DESCRIPTORS 253
/* Serial numbers of our own calls, far from those that a program has come to. */
#define FIRST_SERIAL 0xf0000000u

/* The bus's answers to RequestName. */
enum { PRIMARY_OWNER = 1, IN_QUEUE = 2, ALREADY_OWNER = 4 };

struct descriptors {
	int fds[MOST_DESCRIPTORS];
	size_t count;
};

/* One direction. */
struct line {
	int from, to;
	struct buffer in, out;
	struct descriptors came, go;
	bool ended;
};

struct bus {
	struct line line;
	/* Messages that are for the program. */
	struct buffer held;
	uint32_t serial;
	char unique[NAME_LIMIT + 1];
};

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(path);
	if (length == 0 || length >= sizeof(address.sun_path))
		die("the address of the bus is too long");
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] == '@' ? 0 : 1));
	if (fd < 0 || RETRY(connect(fd, (struct sockaddr *)&address, size)) < 0)
		die_with_error("connecting to %s", path);
	return fd;
}

static void say(int fd, const void *data, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t sent = RETRY(send(fd, (const char *)data + done, length - done, MSG_NOSIGNAL));
		if (sent < 0)
			die_with_error("writing to the bus");
		done += (size_t)sent;
	}
}

/* One line of the handshake; read byte by byte, for what comes after the last one is messages. */
static void hear(int fd, char *text, size_t room)
{
	size_t length = 0;
	do {
		if (length == room - 1)
			die("the bus says too much");
		ssize_t count = RETRY(recv(fd, text + length, 1, 0));
		if (count <= 0)
			die("the bus has hung up");
	} while (text[length++] != '\n');
	text[length] = '\0';
}

static void authenticate(int fd)
{
	char text[512], uid[16];
	snprintf(uid, sizeof(uid), "%u", (unsigned int)geteuid());
	size_t length = (size_t)snprintf(text, sizeof(text), "%cAUTH EXTERNAL ", '\0');
	for (const char *digit = uid; *digit != '\0'; digit++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%02x", (unsigned int)*digit);
	length += (size_t)snprintf(text + length, sizeof(text) - length, "\r\n");
	say(fd, text, length);
	hear(fd, text, sizeof(text));
	if (strncmp(text, "OK", 2) != 0)
		die("the bus does not know this user");
	say(fd, "NEGOTIATE_UNIX_FD\r\n", 19);
	hear(fd, text, sizeof(text));
	say(fd, "BEGIN\r\n", 7);
}

static void close_all(struct descriptors *descriptors)
{
	for (size_t index = 0; index < descriptors->count; index++)
		close(descriptors->fds[index]);
	descriptors->count = 0;
}

static void take_descriptors(struct line *line, struct msghdr *header)
{
	for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each != NULL; each = CMSG_NXTHDR(header, each)) {
		if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		const int *fds = (const int *)CMSG_DATA(each);
		for (size_t index = 0; index < count; index++) {
			if (line->came.count == MOST_DESCRIPTORS)
				die("too many descriptors");
			line->came.fds[line->came.count++] = fds[index];
		}
	}
	if (header->msg_flags & MSG_CTRUNC)
		die("too many descriptors");
}

/* Reads what there is. @returns false where there was nothing. */
static bool read_some(struct line *line, int flags)
{
	static unsigned char bytes[READ_AT_ONCE];
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
	} control;
	struct iovec part = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr header = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t count = RETRY(recvmsg(line->from, &header, flags | MSG_CMSG_CLOEXEC));
	if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (count <= 0) {
		line->ended = true;
		return false;
	}
	append(&line->in, bytes, (size_t)count);
	take_descriptors(line, &header);
	return true;
}

/* @returns the length of the first message where it is whole, else 0. */
static size_t first_message(const struct line *line, struct message *message)
{
	long length = message_length(&line->in);
	if (length < 0)
		die("what came is no message");
	if (length == 0 || line->in.length < (size_t)length)
		return 0;
	if (!read_message(line->in.data, (size_t)length, message) || message->descriptors > MOST_DESCRIPTORS)
		die("what came is a damaged message");
	return (size_t)length;
}

/* ---- setting up ---- */

/* Calls the bus and waits for its answer, which is in `answer` until the next call. @returns false for an error. */
static bool call_bus(struct bus *bus, const struct call *call, struct message *answer)
{
	static struct buffer kept;
	struct buffer out = { 0 };
	uint32_t serial = bus->serial++;
	append_call(&out, serial, call);
	say(bus->line.from, out.data, out.length);
	free(out.data);
	for (;;) {
		struct message message;
		size_t length = first_message(&bus->line, &message);
		if (length == 0) {
			read_some(&bus->line, 0);
			if (bus->line.ended)
				die("the bus has hung up");
			continue;
		}
		bool is_answer = message.reply_serial == serial && message.type != METHOD_CALL;
		bool is_of_bus = strcmp(message.sender, BUS) == 0;
		if (is_answer) {
			kept.length = 0;
			append(&kept, message.data, length);
			read_message(kept.data, length, answer);
		} else if (!is_of_bus || strcmp(message.member, "NameAcquired") != 0) {
			if (bus->held.length + length > HELD_LIMIT)
				die("the bus says too much");
			append(&bus->held, message.data, length);
		}
		drop_front(&bus->line.in, length);
		if (is_answer)
			return answer->type == METHOD_RETURN;
	}
}

static bool ask(struct bus *bus, const char *member, const char *text, struct message *answer)
{
	struct call call = { .interface = BUS, .member = member, .text = text };
	return call_bus(bus, &call, answer);
}

static const char *text_of(const struct message *answer)
{
	struct walk walk = { .message = answer, .offset = answer->body };
	return answer->signature[0] == 's' ? next_string(&walk) : "";
}

static uint32_t number_of(const struct message *answer)
{
	struct walk walk = { .message = answer, .offset = answer->body };
	return answer->signature[0] == 'u' ? next_number(&walk) : 0;
}

static void begin(struct bus *bus, const char *path)
{
	struct message answer;
	alarm(SET_UP_SECONDS);
	bus->serial = FIRST_SERIAL;
	bus->line.from = connect_to(path);
	authenticate(bus->line.from);
	if (!ask(bus, "Hello", NULL, &answer) || strlen(text_of(&answer)) > NAME_LIMIT)
		die("the bus does not greet");
	strcpy(bus->unique, text_of(&answer));
}

/* ---- learn ---- */

__attribute__((format(printf, 1, 2))) static void tell_learnt(const char *format, ...)
{
	static size_t told;
	va_list values;
	va_start(values, format);
	int length = vprintf(format, values);
	va_end(values);
	told += length > 0 ? (size_t)length : 0;
	if (told > LEARNT_LIMIT)
		die("the bus says too much");
}

static void print_match_rules(struct bus *bus)
{
	struct message answer;
	struct call call = { .interface = STATS, .member = "GetAllMatchRules" };
	if (!call_bus(bus, &call, &answer) || strcmp(answer.signature, "a{sas}") != 0)
		return;
	struct walk walk = { .message = &answer, .offset = answer.body };
	size_t end = next_number(&walk);
	align_walk(&walk, 8);
	end += walk.offset;
	while (!walk.failed && walk.offset < end) {
		align_walk(&walk, 8);
		const char *unique = next_string(&walk);
		size_t rules_end = next_number(&walk);
		rules_end += walk.offset;
		while (!walk.failed && walk.offset < rules_end) {
			const char *rule = next_string(&walk);
			/* A rule is one line, whoever has made it. */
			if (!walk.failed && strchr(rule, '\n') == NULL)
				tell_learnt("match %s %s\n", unique, rule);
		}
	}
	if (!walk.failed)
		tell_learnt("rules known\n");
}

static void learn(const char *path)
{
	struct bus bus = { 0 };
	struct message answer;
	begin(&bus, path);
	if (!ask(&bus, "ListNames", NULL, &answer) || strcmp(answer.signature, "as") != 0)
		die("the bus does not list its names");
	/* The next answer takes the place of this one. */
	struct buffer list = { 0 };
	append(&list, answer.data, answer.length);
	struct message names;
	read_message(list.data, list.length, &names);
	struct walk walk = { .message = &names, .offset = names.body };
	size_t end = next_number(&walk);
	end += walk.offset;
	while (!walk.failed && walk.offset < end) {
		const char *name = next_string(&walk);
		if (name[0] == ':' && strcmp(name, bus.unique) != 0) {
			if (ask(&bus, "GetConnectionUnixProcessID", name, &answer))
				tell_learnt("connection %s %u\n", name, (unsigned int)number_of(&answer));
		} else if (name[0] != ':' && ask(&bus, "GetNameOwner", name, &answer)) {
			tell_learnt("name %s %s\n", name, text_of(&answer));
		}
	}
	print_match_rules(&bus);
}

/* ---- stand ---- */

static void put_unread(struct buffer *out, const char *hex)
{
	for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
		const char digits[] = { hex[0], hex[1], '\0' };
		unsigned char byte = (unsigned char)strtoul(digits, NULL, 16);
		append(out, &byte, 1);
	}
}

static void take_name(struct bus *bus, const char *name, const char *shown, struct buffer *told)
{
	struct message answer;
	struct call call = { .interface = BUS, .member = "RequestName", .text = name, .has_flags = true };
	uint32_t result = call_bus(bus, &call, &answer) ? number_of(&answer) : 0;
	if (result == PRIMARY_OWNER || result == ALREADY_OWNER)
		return;
	const char *const texts[] = { name, NULL };
	append_signal(told, bus->serial++, shown, "NameLost", texts);
	printf("%s %s\n", result == IN_QUEUE ? "lost" : "refused", name);
}

static void take_rule(struct bus *bus, const char *rule, const struct names *names)
{
	struct message answer;
	CLEANUP_FREE char *now = renamed_in_rule(rule, names);
	if (!ask(bus, "AddMatch", now, &answer))
		printf("unmatched %s\n", rule);
}

/* Others have come back under other unique names, or not at all; the program hears that as if it had happened just now. */
static void tell_owner(struct bus *bus, const char *name, const char *before, const struct names *names,
		       struct buffer *told)
{
	struct message answer;
	const char *now = ask(bus, "GetNameOwner", name, &answer) ? text_of(&answer) : "";
	if (strcmp(now, names->own) == 0)
		now = names->shown;
	else if (strcmp(now, names->shown) == 0)
		now = names->own;
	if (strcmp(now, before) == 0)
		return;
	if (before[0] != '\0') {
		const char *const gone[] = { name, before, "", NULL };
		append_signal(told, bus->serial++, names->shown, "NameOwnerChanged", gone);
	}
	if (now[0] != '\0') {
		const char *const come[] = { name, "", now, NULL };
		append_signal(told, bus->serial++, names->shown, "NameOwnerChanged", come);
	}
}

/* @returns what is after this word, or NULL where the line begins with another. */
static char *after(char *line, const char *word)
{
	size_t length = strlen(word);
	return strncmp(line, word, length) == 0 && line[length] == ' ' ? line + length + 1 : NULL;
}

static void set_up(struct bus *bus, const struct names *names, struct buffer *to_program)
{
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	struct buffer told = { 0 };
	for (ssize_t length; (length = getline(&line, &room, stdin)) > 0;) {
		char *rest;
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "end") == 0) {
			append(to_program, told.data, told.length);
			free(told.data);
			return;
		}
		if ((rest = after(line, "unread")) != NULL) {
			put_unread(to_program, rest);
		} else if ((rest = after(line, "name")) != NULL) {
			take_name(bus, rest, names->shown, &told);
		} else if ((rest = after(line, "match")) != NULL) {
			take_rule(bus, rest, names);
		} else if ((rest = after(line, "owner")) != NULL) {
			char *owner = strchr(rest, ' ');
			if (owner == NULL)
				die("an owner without a name");
			*owner = '\0';
			tell_owner(bus, rest, owner + 1, names, &told);
		}
	}
	die("nothing says what to take");
}

static void send_some(struct line *line)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
	} control = { 0 };
	struct iovec part = { .iov_base = line->out.data, .iov_len = line->out.length };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
	if (line->go.count > 0) {
		size_t length = line->go.count * sizeof(int);
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(length);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(length);
		memcpy(CMSG_DATA(&control.header), line->go.fds, length);
	}
	ssize_t sent = RETRY(sendmsg(line->to, &header, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (sent < 0)
		exit(0);
	close_all(&line->go);
	drop_front(&line->out, (size_t)sent);
}

/* Makes the first message that has come, if it is whole, the one that goes. */
static void pass_on(struct line *line, const struct names *names)
{
	struct message message;
	size_t length = line->out.length > 0 ? 0 : first_message(line, &message);
	if (length == 0)
		return;
	if (message.descriptors > line->came.count)
		die("a message without its descriptors");
	append_renamed(&line->out, &message, names);
	line->go.count = message.descriptors;
	memcpy(line->go.fds, line->came.fds, message.descriptors * sizeof(int));
	line->came.count -= message.descriptors;
	memmove(line->came.fds, line->came.fds + message.descriptors, line->came.count * sizeof(int));
	drop_front(&line->in, length);
}

/* Until either side has hung up and has nothing left that the other has not been given. */
static void carry(struct line lines[2], const struct names *names, int program_end)
{
	for (;;) {
		struct pollfd fds[3] = { { .fd = program_end < 0 ? -1 : STDIN_FILENO, .events = POLLIN } };
		for (int index = 0; index < 2; index++) {
			struct line *line = &lines[index];
			pass_on(line, names);
			bool goes = line->out.length > 0;
			if (line->ended && !goes)
				return;
			fds[1 + index] = (struct pollfd){ .fd = goes ? line->to : line->from,
							  .events = goes ? POLLOUT : POLLIN };
		}
		if (RETRY(poll(fds, 3, -1)) < 0)
			die_with_error("waiting");
		/* The engine has handed the program its end, or has given up. */
		if (fds[0].revents != 0) {
			close(program_end);
			program_end = -1;
		}
		for (int index = 0; index < 2; index++) {
			if (fds[1 + index].revents == 0)
				continue;
			if (lines[index].out.length > 0)
				send_some(&lines[index]);
			else
				read_some(&lines[index], MSG_DONTWAIT);
		}
	}
}

static void stand(const char *path, const char *unique)
{
	struct bus bus = { 0 };
	struct names names;
	int ends[2];
	if (unique[0] != ':' || strlen(unique) > NAME_LIMIT)
		die("%s is no unique name", unique);
	begin(&bus, path);
	strcpy(names.own, bus.unique);
	strcpy(names.shown, unique);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		die_with_error("making a pair of sockets");
	struct line lines[2] = { { .from = bus.line.from, .to = ends[0] }, { .from = ends[0], .to = bus.line.from } };
	set_up(&bus, &names, &lines[0].out);
	append(&bus.held, bus.line.in.data, bus.line.in.length);
	lines[0].in = bus.held;
	lines[0].came = bus.line.came;
	alarm(0);
	printf("ready %d\n", ends[1]);
	fflush(stdout);
	/* Whoever has started it is not to wait for its end. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	carry(lines, &names, ends[1]);
}

int main(int argc, char **argv)
{
	/* Root takes a descriptor of it: nobody else is to trace it and say which. */
	prctl(PR_SET_DUMPABLE, 0);
	if (argc == 3 && strcmp(argv[1], "learn") == 0)
		learn(argv[2]);
	else if (argc == 4 && strcmp(argv[1], "stand") == 0)
		stand(argv[2], argv[3]);
	else
		die("usage: torpor-buslines learn PATH | stand PATH UNIQUE");
	return 0;
}
