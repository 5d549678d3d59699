/*
 * torpor-transfers: every established TCP connection of this network namespace as a line: its inode, its own end and the other
 * one (family, address and port in hexadecimal), bytes received, and bytes that were sent and acknowledged. By
 * NETLINK_SOCK_DIAG with the kernel's tcp_info, see sock_diag(7).
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

/* linux/tcp_states.h */
#define STATE_ESTABLISHED 1

static void ask(int fd, uint8_t family)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.body = {.sdiag_family = family,
			 .sdiag_protocol = IPPROTO_TCP,
			 .idiag_ext = 1 << (INET_DIAG_INFO - 1),
			 .idiag_states = 1 << STATE_ESTABLISHED},
	};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	if (RETRY(sendto(fd, &request, sizeof(request), 0, (struct sockaddr *)&kernel, sizeof(kernel))) < 0)
		die_with_error("asking for the TCP connections");
}

static void print_end(uint8_t family, const uint32_t *address, uint16_t port)
{
	printf(" %x:", family);
	for (int word = 0; word < (family == AF_INET ? 1 : 4); word++)
		printf("%08x", ntohl(address[word]));
	printf(":%04x", ntohs(port));
}

static void print_connection(const struct nlmsghdr *header)
{
	const struct inet_diag_msg *connection = NLMSG_DATA(header);
	struct rtattr *attribute = (struct rtattr *)(connection + 1);
	unsigned int left = header->nlmsg_len - NLMSG_LENGTH(sizeof(*connection));
	struct tcp_info info = {0};

	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type != INET_DIAG_INFO)
			continue;
		/* An older kernel knows less of it. */
		size_t length = RTA_PAYLOAD(attribute);

		memcpy(&info, RTA_DATA(attribute), length < sizeof(info) ? length : sizeof(info));
	}
	printf("%u", connection->idiag_inode);
	print_end(connection->idiag_family, connection->id.idiag_src, connection->id.idiag_sport);
	print_end(connection->idiag_family, connection->id.idiag_dst, connection->id.idiag_dport);
	printf(" %llu %llu\n", (unsigned long long)info.tcpi_bytes_received, (unsigned long long)info.tcpi_bytes_acked);
}

/* All that is answered to one question. */
static void read_answers(int fd)
{
	static char buffer[1 << 16];

	for (;;) {
		ssize_t length = RETRY(recv(fd, buffer, sizeof(buffer), 0));

		if (length < 0)
			die_with_error("reading the TCP connections");
		unsigned int left = (unsigned int)length;

		for (struct nlmsghdr *header = (struct nlmsghdr *)buffer; NLMSG_OK(header, left);
		     header = NLMSG_NEXT(header, left)) {
			if (header->nlmsg_type == NLMSG_DONE)
				return;
			if (header->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *error = NLMSG_DATA(header);

				/* A kernel without IPv6, or without the module, has none of these. */
				if (error->error == -ENOENT || error->error == -EAFNOSUPPORT)
					return;
				errno = -error->error;
				die_with_error("reading the TCP connections");
			}
			print_connection(header);
		}
	}
}

int main(void)
{
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0)
		die_with_error("opening NETLINK_SOCK_DIAG");
	for (int turn = 0; turn < 2; turn++) {
		ask(fd, turn == 0 ? AF_INET : AF_INET6);
		read_answers(fd);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
