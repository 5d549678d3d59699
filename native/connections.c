/*
 * torpor-connections mend PID...: TCP connections of these processes that a CRIU which was ended has left in repair mode
 * (TCP_REPAIR, in which the kernel neither sends nor answers) go on as before. Says how many there were.
 *
 * torpor-connections unlock TABLE...: removes the nftables tables (family inet) by which CRIU keeps the packets of
 * suspended connections away, so that the other sides learn that nobody is there any more. One that is not there is fine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "repair.h"

struct batch {
	_Alignas(NLMSG_ALIGNTO) char bytes[512];
	uint32_t length;
	uint32_t sequence;
};

static struct nlmsghdr *add_message(struct batch *batch, uint16_t type, uint16_t flags, uint8_t family, uint16_t resource)
{
	struct nlmsghdr *header = (struct nlmsghdr *)(void *)(batch->bytes + batch->length);
	*header = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
				    .nlmsg_type = type,
				    .nlmsg_flags = NLM_F_REQUEST | flags,
				    .nlmsg_seq = batch->sequence++};
	*(struct nfgenmsg *)NLMSG_DATA(header) = (struct nfgenmsg){
		.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
	batch->length += NLMSG_ALIGN(header->nlmsg_len);
	return header;
}

/* The kernel takes changes to tables as a batch of messages only; each is answered by itself. */
static void unlock(const char *table)
{
	size_t size = strlen(table) + 1;
	if (size > NFT_TABLE_MAXNAMELEN || size > 200)
		die("not a name of a table: %s", table);
	struct batch batch = {0};
	add_message(&batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	struct nlmsghdr *change =
		add_message(&batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, NLM_F_ACK, NFPROTO_INET, 0);
	struct nlattr *name = (struct nlattr *)(void *)(batch.bytes + batch.length);
	*name = (struct nlattr){.nla_len = (uint16_t)(NLA_HDRLEN + size), .nla_type = NFTA_TABLE_NAME};
	memcpy((char *)name + NLA_HDRLEN, table, size);
	change->nlmsg_len += NLA_ALIGN(name->nla_len);
	batch.length += NLA_ALIGN(name->nla_len);
	uint32_t awaited = change->nlmsg_seq;
	add_message(&batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);

	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	if (fd < 0 || RETRY(sendto(fd, batch.bytes, batch.length, 0, (struct sockaddr *)&kernel, sizeof(kernel))) < 0)
		die_with_error("asking to remove the table %s", table);
	static char answers[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	for (;;) {
		ssize_t length = RETRY(recv(fd, answers, sizeof(answers), 0));
		if (length <= 0)
			die_with_error("removing the table %s", table);
		for (const struct nlmsghdr *header = (const struct nlmsghdr *)(void *)answers;
		     NLMSG_OK(header, (size_t)length); header = NLMSG_NEXT(header, length)) {
			if (header->nlmsg_type != NLMSG_ERROR)
				continue;
			errno = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
			if (errno && errno != ENOENT)
				die_with_error("removing the table %s", table);
			if (header->nlmsg_seq == awaited || errno)
				return;
		}
	}
}

int main(int count, char **arguments)
{
	if (count < 3)
		die("usage: torpor-connections mend PID... | unlock TABLE...");
	if (!strcmp(arguments[1], "unlock")) {
		for (int index = 2; index < count; index++)
			unlock(arguments[index]);
	} else if (!strcmp(arguments[1], "mend")) {
		int mended = 0;
		for (int index = 2; index < count; index++)
			mended += end_repair_mode((pid_t)strtol(arguments[index], NULL, 10));
		printf("%d\n", mended);
	} else {
		die("not a command: %s", arguments[1]);
	}
	return 0;
}
