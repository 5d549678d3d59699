/*
 * What CRIU sends: its page server's protocol, of which it uses four commands with a new image. The images' entries
 * are written here as they come, with what is taken over from the parent unseen (`go unfetched`) in between.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "receive.h"
#include "report.h"

struct request {
	uint32_t command; /* flags above the lower 16 bits */
	uint32_t padding;
	uint64_t pages;
	uint64_t vaddr;
	uint64_t dst_id;
};
#define COMMAND_OPEN2 4u
#define COMMAND_PARENT 5u
#define COMMAND_ADD_F 6u
#define COMMAND_CLOSE 0x1023u
#define COMMAND_FORCE_CLOSE 0x1024u
#define FLAG_PARENT 1u

#define IMAGE_MAGIC 0x54564319u
#define PAGEMAP_MAGIC 0x56084025u

/* No process of Linux has an address beyond it (five levels of page tables), and no shared memory is longer. */
#define ADDRESS_END (1ull << 57)

struct stream {
	struct receive *receive;
	bool may_go;
	bool in_image;
	uint64_t dst_id;
	uint64_t covered; /* up to this address, entries of this image are written */
	struct out_file *entries;
	struct out_file *pagemap;
	uint64_t *opened; /* dst_ids */
	/* What of the image is still to be taken over. */
	const struct unfetched_range *unfetched;
	const struct unfetched_range *unfetched_end;
	struct block *block; /* being filled */
};

static void receive_all(int socket, void *bytes, size_t length)
{
	uint8_t *next = bytes;

	while (length > 0) {
		ssize_t got = RETRY(recv(socket, next, length, MSG_WAITALL));

		if (got < 0)
			fail_errno("what CRIU sends cannot be read");
		if (got == 0)
			fail("ECONNRESET", "CRIU closed the connection before it had sent all pages; its log says why");
		next += got;
		length -= (size_t)got;
	}
}

static void answer(int socket, const void *bytes, size_t length)
{
	if (RETRY(send(socket, bytes, length, MSG_NOSIGNAL)) != (ssize_t)length)
		fail_errno("CRIU cannot be answered");
}

/* `go`, or `go unfetched PATH`, which must come before CRIU may send anything. */
static void await_go(struct stream *stream)
{
	struct receive *receive = stream->receive;
	char line[4200];
	size_t length = 0;
	static const char unfetched[] = "go unfetched ";
	char *what;
	size_t bytes;
	const void *start;

	for (;;) {
		ssize_t got = RETRY(read(STDIN_FILENO, line + length, 1));

		if (got <= 0)
			fail("ECANCELED", "the engine ended before it let CRIU begin");
		if (line[length] == '\n')
			break;
		if (++length == sizeof(line))
			fail("EPROTO", "the line on standard input is too long");
	}
	line[length] = '\0';
	if (strcmp(line, "go") == 0)
		return;
	if (strncmp(line, unfetched, strlen(unfetched)) != 0)
		fail("EPROTO", "the line \"%s\" on standard input is neither \"go\" nor \"go unfetched PATH\"", line);
	if (!receive->has_parent)
		fail("EINVAL", "what was not fetched can be taken over only with a readable --parent");
	if (!map_file(line + strlen(unfetched), sizeof(struct unfetched_range), &start, &bytes, &what))
		fail("EINVAL", "%s", what);
	receive->unfetched = start;
	receive->unfetched_count = bytes / sizeof(struct unfetched_range);
	for (uint64_t i = 0; i < receive->unfetched_count; i++) {
		const struct unfetched_range *range = &receive->unfetched[i];
		const struct unfetched_range *before = i > 0 ? range - 1 : NULL;

		if (range->vaddr % PAGE_BYTES != 0 || range->vaddr >= ADDRESS_END || range->pages == 0 ||
		    range->pages > (ADDRESS_END - range->vaddr) / PAGE_BYTES ||
		    range->first_page > receive->parent.pages ||
		    range->pages > receive->parent.pages - range->first_page ||
		    (before && (before->dst_id > range->dst_id ||
				(before->dst_id == range->dst_id &&
				 before->vaddr + before->pages * PAGE_BYTES > range->vaddr))))
			fail("EINVAL", "range %" PRIu64 " of %s is none of the parent's pages, or in the wrong order", i,
			     line + strlen(unfetched));
	}
}

static size_t put_varint(uint8_t *out, uint64_t value)
{
	size_t length = 0;

	do {
		out[length] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
		value >>= 7;
		length++;
	} while (value);
	return length;
}

static size_t put_field(uint8_t *out, unsigned number, uint64_t value)
{
	size_t length = put_varint(out, number << 3);

	return length + put_varint(out + length, value);
}

/* Messages in CRIU's images have their length before them. */
static void put_message(struct out_file *file, const uint8_t *message, size_t length)
{
	uint32_t size = (uint32_t)length;

	out_put(file, &size, sizeof(size));
	out_put(file, message, length);
}

static void put_entry(struct stream *stream, uint64_t vaddr, uint64_t pages, uint32_t flags)
{
	struct receive *receive = stream->receive;
	struct pages_entry entry = { .kind = PAGES_ENTRY, .flags = flags, .vaddr = vaddr, .pages = pages,
				     .first_page = receive->pages };
	uint8_t message[64];
	size_t length = put_field(message, 1, vaddr);

	/* The count twice: CRIU before 4.2 reads the narrow one, and nobody both. */
	length += put_field(message + length, 2, pages <= UINT32_MAX ? pages : 0);
	length += put_field(message + length, 4, flags);
	length += put_field(message + length, 5, pages);
	out_put(stream->entries, &entry, sizeof(entry));
	put_message(stream->pagemap, message, length);
	receive->pages += pages;
	stream->covered = vaddr + pages * PAGE_BYTES;
}

static void hand_over(struct stream *stream)
{
	if (stream->block)
		receive_filled(stream->receive);
	stream->block = NULL;
}

static void add_run(struct stream *stream, const struct run *run)
{
	stream->block->runs[stream->block->run_count++] = *run;
}

/* A block with room for a run and at least one page. */
static struct block *block_with_room(struct stream *stream)
{
	if (stream->block && (stream->block->pages == BLOCK_PAGES || stream->block->run_count == BLOCK_RUNS))
		hand_over(stream);
	if (!stream->block)
		stream->block = receive_block(stream->receive);
	return stream->block;
}

/* Takes over what CRIU does not send of the image, up to an address; CRIU may restore it as lazily as the parent's. */
static void take_over(struct stream *stream, uint64_t limit)
{
	for (; stream->unfetched < stream->unfetched_end; stream->unfetched++) {
		const struct unfetched_range *range = stream->unfetched;
		uint64_t begin = range->vaddr > stream->covered ? range->vaddr : stream->covered;
		uint64_t end = range->vaddr + range->pages * PAGE_BYTES;
		uint64_t part = end < limit ? end : limit;

		while (begin < part) {
			uint64_t first = range->first_page + (begin - range->vaddr) / PAGE_BYTES;
			const struct pages_entry *entry = snapshot_entry(&stream->receive->parent, first);
			uint64_t follow = entry->first_page + entry->pages - first;
			uint64_t pages = (part - begin) / PAGE_BYTES;

			if (pages > follow)
				pages = follow;
			block_with_room(stream);
			add_run(stream, &(struct run){ .kind = RUN_TAKEN_OVER, .dst_id = stream->dst_id, .vaddr = begin,
						       .pages = pages, .first = first });
			put_entry(stream, begin, pages, entry->flags);
			stream->receive->unfetched_pages += pages;
			begin += pages * PAGE_BYTES;
		}
		if (end > limit)
			break;
	}
}

static void end_image(struct stream *stream)
{
	if (!stream->in_image)
		return;
	take_over(stream, ADDRESS_END);
	out_close(stream->pagemap, 0);
	stream->pagemap = NULL;
	stream->in_image = false;
}

static void find_unfetched(struct stream *stream)
{
	const struct unfetched_range *range = stream->receive->unfetched;
	const struct unfetched_range *end = range ? range + stream->receive->unfetched_count : NULL;

	while (range < end && range->dst_id < stream->dst_id)
		range++;
	stream->unfetched = range;
	while (range < end && range->dst_id == stream->dst_id)
		range++;
	stream->unfetched_end = range;
}

static void open_image(struct stream *stream, uint64_t dst_id)
{
	struct receive *receive = stream->receive;
	unsigned kind = KIND_OF(dst_id);
	uint64_t id = dst_id >> 8;
	uint32_t magics[2] = { IMAGE_MAGIC, PAGEMAP_MAGIC };
	uint8_t message[16];

	end_image(stream);
	if (kind != KIND_PROCESS && kind != KIND_SHARED)
		fail("EPROTO", "CRIU opens an image of a kind (%u) that is not known", kind);
	for (unsigned i = 0; i < receive->images; i++) {
		if (stream->opened[i] == dst_id)
			fail("EPROTO", "CRIU opens the image of %s %" PRIu64 " a second time",
			     kind == KIND_PROCESS ? "process" : "shared memory", id);
	}
	uint64_t *more = reallocarray(stream->opened, receive->images + 1, sizeof(*more));

	if (!more)
		fail("ENOMEM", "there is not enough memory for %u images", receive->images);
	stream->opened = more;
	stream->opened[receive->images++] = dst_id;
	stream->in_image = true;
	stream->dst_id = dst_id;
	stream->covered = 0;
	find_unfetched(stream);

	struct pages_image image = { .kind = PAGES_IMAGE, .pages_id = receive->images, .dst_id = dst_id,
				     .first_page = receive->pages };

	out_put(stream->entries, &image, sizeof(image));
	stream->pagemap = out_open(format_string(
		kind == KIND_PROCESS ? "%s/images/pagemap-%" PRIu64 ".img" : "%s/images/pagemap-shmem-%" PRIu64 ".img",
		receive->stage, id));
	out_put(stream->pagemap, magics, sizeof(magics));
	put_message(stream->pagemap, message, put_field(message, 1, image.pages_id));
}

static void add_pages(struct stream *stream, const struct request *request)
{
	struct receive *receive = stream->receive;
	uint32_t flags = request->command >> 16;
	uint64_t vaddr = request->vaddr, pages = request->pages;

	if (!stream->in_image || request->dst_id != stream->dst_id)
		fail("EPROTO", "CRIU sends pages of an image that it has not opened (%" PRIu64 ")", request->dst_id);
	if (!(flags & ENTRY_PRESENT) || (flags & FLAG_PARENT) || (flags & ~(ENTRY_PRESENT | ENTRY_LAZY)))
		fail("EPROTO", "CRIU describes pages in a way (flags %u) that was not asked for", flags);
	if (vaddr % PAGE_BYTES != 0 || vaddr >= ADDRESS_END || pages == 0 || pages > (ADDRESS_END - vaddr) / PAGE_BYTES)
		fail("EPROTO", "CRIU sends %" PRIu64 " pages at %#" PRIx64 ", which cannot be", pages, vaddr);
	if (vaddr < stream->covered)
		fail("EPROTO", "CRIU sends the pages at %#" PRIx64 " after those up to %#" PRIx64 ": in no ascending order",
		     vaddr, stream->covered);
	take_over(stream, vaddr);
	put_entry(stream, vaddr, pages, flags);
	while (pages > 0) {
		struct block *block = block_with_room(stream);
		uint64_t room = BLOCK_PAGES - block->pages;
		uint64_t part = pages;

		if (part > room) {
			/* Cut between windows, so that none is torn. */
			uint64_t end = (vaddr + room * PAGE_BYTES) & ~(uint64_t)(CHUNK_BYTES - 1);

			if (end <= vaddr) {
				hand_over(stream);
				continue;
			}
			part = (end - vaddr) / PAGE_BYTES;
		}
		receive_all(receive->socket, block->data + (size_t)block->pages * PAGE_BYTES, part * PAGE_BYTES);
		add_run(stream, &(struct run){ .kind = RUN_READ, .dst_id = stream->dst_id, .vaddr = vaddr, .pages = part,
					       .first = block->pages });
		block->pages += (unsigned)part;
		vaddr += part * PAGE_BYTES;
		pages -= part;
		atomic_fetch_add(&receive->received, part * PAGE_BYTES);
	}
}

void read_stream(struct receive *receive)
{
	struct stream stream = { .receive = receive };
	const uint8_t no = 0;
	const int32_t none = 0;

	stream.entries = out_open(format_string("%s/pages/entries", receive->stage));
	for (;;) {
		struct request request;

		receive_all(receive->socket, &request, sizeof(request));
		/* CLOSE has more than 16 bits' worth of flags in no case: it is compared as it is. */
		if (request.command == COMMAND_CLOSE || request.command == COMMAND_FORCE_CLOSE)
			break;
		switch (request.command & 0xffff) {
		case COMMAND_OPEN2:
			if (!stream.may_go)
				await_go(&stream);
			stream.may_go = true;
			open_image(&stream, request.dst_id);
			answer(receive->socket, &no, sizeof(no));
			break;
		case COMMAND_PARENT:
			answer(receive->socket, &none, sizeof(none));
			break;
		case COMMAND_ADD_F:
			add_pages(&stream, &request);
			break;
		default:
			fail("EPROTO", "CRIU sends a command (%#x) that is not known", request.command);
		}
	}
	end_image(&stream);
	hand_over(&stream);
	answer(receive->socket, &none, sizeof(none));
	report_line("{\"event\":\"received\"}");
	out_close(stream.entries, 1);
	free(stream.opened);
}
