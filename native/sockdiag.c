/*
 * torpor-sockdiag: every unix socket of this network namespace as a line of JSON, with the inode of its peer, which
 * /proc does not tell. By NETLINK_SOCK_DIAG, see sock_diag(7).
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common.h"

/* linux/tcp_states.h, which unix sockets use too. */
#define STATE_ESTABLISHED 1
#define STATE_LISTEN 10

static void ask(int fd)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req body;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.body = {.sdiag_family = AF_UNIX,
			 .udiag_states = ~0U,
			 .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN |
					 UDIAG_SHOW_VFS},
	};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	if (RETRY(sendto(fd, &request, sizeof(request), 0, (struct sockaddr *)&kernel, sizeof(kernel))) < 0)
		die_with_error("asking for the unix sockets");
}

static const char *type_name(uint8_t type)
{
	return type == SOCK_STREAM ? "stream" : type == SOCK_SEQPACKET ? "seqpacket" : "dgram";
}

static const char *state_name(uint8_t state)
{
	return state == STATE_LISTEN ? "listen" : state == STATE_ESTABLISHED ? "established" : "unconnected";
}

/* An abstract name begins with a zero byte, and may hold others: they are shown as '@', as /proc/net/unix does. */
static void print_name(const char *name, size_t length)
{
	char shown[sizeof(((struct sockaddr_un *)0)->sun_path) + 1] = "";
	if (length >= sizeof(shown))
		length = sizeof(shown) - 1;
	bool abstract = length > 0 && name[0] == '\0';
	for (size_t index = 0; index < length; index++)
		shown[index] = name[index] || !abstract ? name[index] : '@';
	shown[length] = '\0';
	write_json_string(stdout, shown);
}

/* Of those that wait to be accepted: the ends that the clients have. */
static void print_inodes(const struct rtattr *list)
{
	size_t count = list ? RTA_PAYLOAD(list) / sizeof(uint32_t) : 0;
	fputc('[', stdout);
	for (size_t index = 0; index < count; index++) {
		uint32_t inode;
		memcpy(&inode, (const char *)RTA_DATA(list) + index * sizeof(inode), sizeof(inode));
		printf("%s%u", index ? "," : "", inode);
	}
	fputc(']', stdout);
}

static void print_socket(const struct nlmsghdr *header)
{
	const struct unix_diag_msg *socket = NLMSG_DATA(header);
	uint32_t peer = 0;
	const char *name = "";
	size_t name_length = 0;
	struct unix_diag_rqlen queues = {0};
	const struct rtattr *waiting = NULL;
	struct unix_diag_vfs file = {0};
	int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*socket)));
	for (const struct rtattr *item = (const struct rtattr *)(socket + 1); RTA_OK(item, left);
	     item = RTA_NEXT(item, left)) {
		if (item->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(item) >= sizeof(peer))
			memcpy(&peer, RTA_DATA(item), sizeof(peer));
		if (item->rta_type == UNIX_DIAG_VFS && RTA_PAYLOAD(item) >= sizeof(file))
			memcpy(&file, RTA_DATA(item), sizeof(file));
		if (item->rta_type == UNIX_DIAG_NAME) {
			name = RTA_DATA(item);
			name_length = RTA_PAYLOAD(item);
		}
		if (item->rta_type == UNIX_DIAG_RQLEN && RTA_PAYLOAD(item) >= sizeof(queues))
			memcpy(&queues, RTA_DATA(item), sizeof(queues));
		if (item->rta_type == UNIX_DIAG_ICONS)
			waiting = item;
	}
	bool listens = socket->udiag_state == STATE_LISTEN;
	printf("{\"inode\":%u,\"type\":\"%s\",\"state\":\"%s\",\"peer\":%u,\"unsent\":%u,\"waiting\":", socket->udiag_ino,
	       type_name(socket->udiag_type), state_name(socket->udiag_state), peer, listens ? 0 : queues.udiag_wqueue);
	print_inodes(waiting);
	fputs(",\"path\":", stdout);
	print_name(name, name_length);
	if (file.udiag_vfs_ino)
		printf(",\"file\":%u", file.udiag_vfs_ino);
	fputs("}\n", stdout);
}

int main(void)
{
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		die_with_error("opening a netlink socket");
	ask(fd);
	static char buffer[65536] __attribute__((aligned(NLMSG_ALIGNTO)));
	for (;;) {
		ssize_t length = RETRY(recv(fd, buffer, sizeof(buffer), 0));
		if (length <= 0)
			die_with_error("reading the unix sockets");
		for (const struct nlmsghdr *header = (const struct nlmsghdr *)buffer; NLMSG_OK(header, (size_t)length);
		     header = NLMSG_NEXT(header, length)) {
			if (header->nlmsg_type == NLMSG_DONE)
				return 0;
			if (header->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *error = NLMSG_DATA(header);
				errno = -error->error;
				die_with_error("reading the unix sockets");
			}
			if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY)
				print_socket(header);
		}
	}
}
