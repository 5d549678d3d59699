/*
 * torpor-forget PORT...: ends what is left of connections that came to these TCP ports and that no process has any more
 * (TIME_WAIT and its like), so that the ports can be listened at again at once. By NETLINK_SOCK_DIAG, see sock_diag(7);
 * ending them needs CONFIG_INET_DIAG_DESTROY. Connections that a process has are left alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

#ifndef SOCK_DESTROY
#define SOCK_DESTROY 21
#endif

/* linux/tcp_states.h: all but established (1), being opened (2, 3, 12), closed (7) and listening (10). */
#define STATES (~0U & ~(1U << 1 | 1U << 2 | 1U << 3 | 1U << 7 | 1U << 10 | 1U << 12))
#define MOST_AT_ONCE 4096

static struct inet_diag_req_v2 left[MOST_AT_ONCE];
static size_t left_count;

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

static void ask(int fd, const struct request *request)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	if (RETRY(sendto(fd, request, sizeof(*request), 0, (struct sockaddr *)&kernel, sizeof(kernel))) < 0)
		die_with_error("asking about connections");
}

static void note(const struct inet_diag_msg *found, const uint16_t *ports, int count)
{
	/* What the other side has not confirmed yet is still on its way: an answer to somebody, whole only with its end. */
	if (found->idiag_inode != 0 || found->idiag_wqueue != 0 || left_count == MOST_AT_ONCE)
		return;
	for (int index = 0; index < count; index++) {
		if (ntohs(found->id.idiag_sport) != ports[index])
			continue;
		left[left_count++] = (struct inet_diag_req_v2){.sdiag_family = found->idiag_family,
							       .sdiag_protocol = IPPROTO_TCP,
							       .idiag_states = STATES,
							       .id = found->id};
		return;
	}
}

/* Reads answers until their end. @return 0 or the errno that the kernel answers with. */
static int read_answers(int fd, const uint16_t *ports, int count)
{
	static char buffer[65536] __attribute__((aligned(NLMSG_ALIGNTO)));
	for (;;) {
		ssize_t length = RETRY(recv(fd, buffer, sizeof(buffer), 0));
		if (length <= 0)
			die_with_error("reading connections");
		for (const struct nlmsghdr *header = (const struct nlmsghdr *)buffer; NLMSG_OK(header, (size_t)length);
		     header = NLMSG_NEXT(header, length)) {
			if (header->nlmsg_type == NLMSG_DONE)
				return 0;
			if (header->nlmsg_type == NLMSG_ERROR)
				return -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
			if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY)
				note(NLMSG_DATA(header), ports, count);
		}
	}
}

int main(int count, char **arguments)
{
	CLEANUP_FREE uint16_t *ports = calloc((size_t)count, sizeof(*ports));
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (!ports || fd < 0)
		die_with_error("opening a netlink socket");
	for (int index = 1; index < count; index++) {
		char *end;
		unsigned long port = strtoul(arguments[index], &end, 10);
		if (*end || !port || port > UINT16_MAX)
			die("not a port: %s", arguments[index]);
		ports[index - 1] = (uint16_t)port;
	}
	static const uint8_t families[] = {AF_INET, AF_INET6};
	for (size_t each = 0; each < sizeof(families); each++) {
		struct request request = {
			.header = {.nlmsg_len = sizeof(request),
				   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
				   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
			.body = {.sdiag_family = families[each], .sdiag_protocol = IPPROTO_TCP, .idiag_states = STATES},
		};
		ask(fd, &request);
		errno = read_answers(fd, ports, count - 1);
		/* A kernel without IPv6 knows nothing of it. */
		if (errno && errno != ENOENT)
			die_with_error("listing connections");
	}
	for (size_t index = 0; index < left_count; index++) {
		struct request request = {
			.header = {.nlmsg_len = sizeof(request),
				   .nlmsg_type = SOCK_DESTROY,
				   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
			.body = left[index],
		};
		ask(fd, &request);
		errno = read_answers(fd, NULL, 0);
		/* It may be over by itself. */
		if (errno && errno != ENOENT)
			die_with_error("ending what is left of a connection");
	}
	return 0;
}
