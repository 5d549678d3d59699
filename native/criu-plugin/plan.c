/* Reading of the plan: lines of words, mapped shared so that every process of CRIU can write an outcome into it. */
#include "plan.h"

#include "../common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OUTCOME_LENGTH 4
#define LONGEST_NAME sizeof(((struct sockaddr_un *)0)->sun_path)

static const char *const action_names[] = {
	[ACTION_BLOCK] = "block",
	[ACTION_HANG_UP] = "hang-up",
	[ACTION_RECONNECT] = "reconnect",
	[ACTION_MEET] = "meet",
	[ACTION_GIVEN] = "given",
};

static int digit_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Hexadecimal digits; a dash stands for none. */
static bool read_bytes(const char *word, struct bytes *bytes)
{
	size_t digits = strcmp(word, "-") == 0 ? 0 : strlen(word);
	bytes->length = digits / 2;
	bytes->data = malloc(bytes->length + 1);
	if (bytes->data == NULL || digits % 2 != 0)
		return false;
	for (size_t index = 0; index < bytes->length; index++) {
		int high = digit_value(word[2 * index]), low = digit_value(word[2 * index + 1]);
		if (high < 0 || low < 0)
			return false;
		bytes->data[index] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static bool read_number(const char *word, int base, unsigned long limit, unsigned long *number)
{
	char *end;
	errno = 0;
	*number = strtoul(word, &end, base);
	return *word >= '0' && *word <= '9' && *end == '\0' && errno == 0 && *number <= limit;
}

static bool read_groups(char *word, struct socket_plan *entry)
{
	char *rest = NULL;
	entry->groups = calloc(strlen(word) + 1, sizeof(*entry->groups));
	if (entry->groups == NULL)
		return false;
	if (strcmp(word, "-") == 0)
		return true;
	for (char *each = strtok_r(word, ",", &rest); each; each = strtok_r(NULL, ",", &rest)) {
		unsigned long group;
		if (!read_number(each, 10, 0xffffffffUL, &group))
			return false;
		entry->groups[entry->group_count++] = (gid_t)group;
	}
	return true;
}

static bool read_action(const char *word, enum socket_action *action)
{
	for (size_t index = 0; index < sizeof(action_names) / sizeof(*action_names); index++) {
		if (strcmp(word, action_names[index]) == 0) {
			*action = (enum socket_action)index;
			return true;
		}
	}
	return false;
}

enum { INODE, ACTION, TYPE, USER, GROUP, GROUPS, OWN, MODE, ADDRESS, DESCRIPTOR, WORDS };

static bool read_socket(char *line, struct socket_plan *entry)
{
	char *words[WORDS], *rest = NULL;
	for (int index = 0; index < WORDS; index++)
		if ((words[index] = strtok_r(index == 0 ? line : NULL, " ", &rest)) == NULL)
			return false;
	unsigned long inode, type, uid, gid, mode, fd;
	if (!read_number(words[INODE], 10, 0xffffffffUL, &inode) || !read_action(words[ACTION], &entry->action) ||
	    !read_number(words[TYPE], 10, 5, &type) || !read_number(words[USER], 10, 0xffffffffUL, &uid) ||
	    !read_number(words[GROUP], 10, 0xffffffffUL, &gid) || !read_groups(words[GROUPS], entry) ||
	    !read_bytes(words[OWN], &entry->own) || !read_number(words[MODE], 8, 0177777, &mode) ||
	    !read_bytes(words[ADDRESS], &entry->address) || !read_number(words[DESCRIPTOR], 10, 1 << 20, &fd))
		return false;
	entry->inode = (unsigned int)inode;
	entry->type = (int)type;
	entry->uid = (uid_t)uid;
	entry->gid = (gid_t)gid;
	entry->mode = (mode_t)mode;
	entry->fd = (int)fd;
	return entry->own.length <= LONGEST_NAME && entry->address.length <= LONGEST_NAME;
}

static bool add_socket(struct plan *plan, char *line, char *outcome)
{
	struct socket_plan *grown = realloc(plan->sockets, (plan->count + 1) * sizeof(*grown));
	if (grown == NULL)
		return false;
	plan->sockets = grown;
	struct socket_plan *entry = &grown[plan->count++];
	memset(entry, 0, sizeof(*entry));
	entry->outcome = outcome;
	return read_socket(line, entry);
}

static bool add_packet(struct plan *plan, const char *word)
{
	if (plan->count == 0)
		return false;
	struct socket_plan *entry = &plan->sockets[plan->count - 1];
	struct bytes *grown = realloc(entry->packets, (entry->packet_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return false;
	entry->packets = grown;
	return read_bytes(word, &grown[entry->packet_count++]);
}

static bool read_lines(struct plan *plan, char *text)
{
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		static const char packet[] = "packet ", pending[] = "---- ";
		if (strncmp(line, packet, sizeof(packet) - 1) == 0) {
			if (!add_packet(plan, line + sizeof(packet) - 1))
				return false;
		} else if (strncmp(line, pending, sizeof(pending) - 1) != 0 ||
			   !add_socket(plan, line + sizeof(pending) - 1, plan->mapping + (line - text))) {
			return false;
		}
	}
	return true;
}

static bool map_file(struct plan *plan, int fd)
{
	struct stat found;
	if (fstat(fd, &found) < 0 || !S_ISREG(found.st_mode) || found.st_size == 0)
		return false;
	plan->length = (size_t)found.st_size;
	void *mapping = mmap(NULL, plan->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED)
		return false;
	plan->mapping = mapping;
	return true;
}

struct plan *read_plan(const char *path)
{
	int fd = path == NULL ? -1 : (int)RETRY(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
	if (fd < 0)
		return NULL;
	struct plan *plan = calloc(1, sizeof(*plan));
	char *text = NULL;
	bool whole = false;
	if (plan != NULL && map_file(plan, fd) && (text = strndup(plan->mapping, plan->length)) != NULL)
		whole = read_lines(plan, text);
	free(text);
	close(fd);
	if (whole)
		return plan;
	free_plan(plan);
	return NULL;
}

void free_plan(struct plan *plan)
{
	if (plan == NULL)
		return;
	for (size_t index = 0; index < plan->count; index++) {
		struct socket_plan *entry = &plan->sockets[index];
		for (size_t packet = 0; packet < entry->packet_count; packet++)
			free(entry->packets[packet].data);
		free(entry->packets);
		free(entry->groups);
		free(entry->own.data);
		free(entry->address.data);
	}
	free(plan->sockets);
	if (plan->mapping != NULL)
		munmap(plan->mapping, plan->length);
	free(plan);
}

struct socket_plan *find_socket(struct plan *plan, unsigned int inode)
{
	for (size_t index = 0; plan != NULL && index < plan->count; index++)
		if (plan->sockets[index].inode == inode)
			return &plan->sockets[index];
	return NULL;
}

void set_outcome(const struct socket_plan *entry, int error)
{
	char text[16] = "done";
	if (error != 0)
		snprintf(text, sizeof(text), "E%03u", (unsigned int)error % 1000);
	memcpy(entry->outcome, text, OUTCOME_LENGTH);
}
