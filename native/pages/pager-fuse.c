#include "pager-fuse.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"
#include "pager.h"

/* Nothing here ever changes. */
#define VALID_SECONDS 86400u
/* How far a reader that goes straight ahead is read ahead of. */
#define AHEAD_PAGES (2u * FUSE_READ_MOST / PAGE_BYTES)

/* Node N + 2 is image N of the snapshot; node 1 is the folder. */
#define FIRST_NODE 2u

struct fuse_start_arguments {
	struct fuse_serving serving;
	int fd;
	uint8_t *request; /* shared: a worker that follows finds there what this one had not answered */
	uint64_t *served; /* bytes of files, over all threads and workers */
};

static const struct snapshot_image *image_of(const struct fuse_serving *serving, uint64_t node)
{
	const struct snapshot *snapshot = &serving->reader->snapshot;

	return node >= FIRST_NODE && node - FIRST_NODE < snapshot->image_count ? &snapshot->images[node - FIRST_NODE]
									       : NULL;
}

static bool fill_attributes(const struct fuse_serving *serving, uint64_t node, struct fuse_attr *attributes)
{
	const struct snapshot_image *image = image_of(serving, node);

	*attributes = (struct fuse_attr){ .ino = node, .nlink = 1, .blksize = FUSE_READ_MOST };
	if (node == FUSE_ROOT_ID) {
		attributes->mode = S_IFDIR | 0500;
		attributes->nlink = 2;
		return true;
	}
	if (!image)
		return false;
	attributes->mode = S_IFREG | 0400;
	attributes->size = image->pages * PAGE_BYTES;
	attributes->blocks = attributes->size / 512;
	return true;
}

static void image_name(const struct snapshot_image *image, char name[32])
{
	snprintf(name, 32, "pages-%u.img", image->pages_id);
}

/* Pages one after the other; a chunk that begins at its own beginning is unpacked in place. */
static bool read_pages(struct fuse_serving *serving, uint64_t page, uint64_t count, uint8_t *out)
{
	const page_place *places = serving->reader->snapshot.places;

	while (count > 0) {
		page_place place = *(places + page);
		uint64_t run = 1;
		uint8_t *chunk;
		int pages;

		if (place == PLACE_ZERO) {
			memset(out, 0, PAGE_BYTES);
		} else {
			while (run < count && run < CHUNK_PAGES && places[page + run] == place + run &&
			       places[page + run] / CHUNK_PAGES == place / CHUNK_PAGES)
				run++;
			chunk = place % CHUNK_PAGES == 0 ? out : serving->spare;
			pages = pool_chunk(serving->pool, &serving->thread, place / CHUNK_PAGES, chunk);
			if (pages < (int)(place % CHUNK_PAGES + run))
				return false;
			if (chunk != out)
				memcpy(out, chunk + (size_t)(place % CHUNK_PAGES) * PAGE_BYTES, run * PAGE_BYTES);
		}
		page += run;
		count -= run;
		out += run * PAGE_BYTES;
	}
	return true;
}

/* Has the other threads unpack what follows. */
static void ask_ahead(struct fuse_serving *serving, const struct snapshot_image *image, uint64_t page, uint64_t count)
{
	const page_place *places = serving->reader->snapshot.places;
	uint64_t last = UINT64_MAX, end = image->first_page + image->pages;

	for (; count > 0 && page < end; page++, count--) {
		uint64_t chunk = places[page] / CHUNK_PAGES;

		if (places[page] == PLACE_ZERO || chunk == last)
			continue;
		pool_ahead(serving->pool, chunk);
		last = chunk;
	}
}

static int answer_read(struct fuse_serving *serving, uint64_t node, const struct fuse_read_in *in, uint8_t *out,
		       size_t *length)
{
	const struct snapshot_image *image = image_of(serving, node);
	uint64_t bytes, first, skip, pages;

	if (!image)
		return -EISDIR;
	bytes = image->pages * PAGE_BYTES;
	*length = 0;
	if (in->offset >= bytes)
		return 0;
	*length = in->size < FUSE_READ_MOST ? in->size : FUSE_READ_MOST;
	if (*length > bytes - in->offset)
		*length = bytes - in->offset;
	skip = in->offset % PAGE_BYTES;
	first = image->first_page + in->offset / PAGE_BYTES;
	pages = (skip + *length + PAGE_BYTES - 1) / PAGE_BYTES;
	/* Every reader of these files goes straight ahead, CRIU and cp. */
	ask_ahead(serving, image, first, pages + AHEAD_PAGES);
	if (!read_pages(serving, first, pages, out))
		return -EIO;
	if (skip)
		memmove(out, out + skip, *length);
	return 0;
}

static int answer_folder(struct fuse_serving *serving, const struct fuse_read_in *in, uint8_t *out, size_t *length)
{
	const struct snapshot *snapshot = &serving->reader->snapshot;
	size_t room = in->size < FUSE_READ_MOST ? in->size : FUSE_READ_MOST;

	*length = 0;
	for (uint64_t i = in->offset; i < (uint64_t)snapshot->image_count + 2; i++) {
		char name[32];
		struct fuse_dirent entry = { .ino = FUSE_ROOT_ID, .off = i + 1, .type = S_IFDIR >> 12 };
		size_t all;

		if (i >= 2) {
			image_name(&snapshot->images[i - 2], name);
			entry.ino = i - 2 + FIRST_NODE;
			entry.type = S_IFREG >> 12;
		} else {
			strcpy(name, i == 0 ? "." : "..");
		}
		entry.namelen = (uint32_t)strlen(name);
		all = FUSE_DIRENT_ALIGN(sizeof(entry) + entry.namelen);
		if (*length + all > room)
			break;
		memset(out + *length, 0, all);
		memcpy(out + *length, &entry, sizeof(entry));
		memcpy(out + *length + sizeof(entry), name, entry.namelen);
		*length += all;
	}
	return 0;
}

static int answer_lookup(struct fuse_serving *serving, const char *name, size_t room, struct fuse_entry_out *out)
{
	const struct snapshot *snapshot = &serving->reader->snapshot;

	if (!memchr(name, '\0', room))
		return -EINVAL;
	for (unsigned i = 0; i < snapshot->image_count; i++) {
		char each[32];

		image_name(&snapshot->images[i], each);
		if (strcmp(each, name) != 0)
			continue;
		*out = (struct fuse_entry_out){ .nodeid = i + FIRST_NODE,
						.entry_valid = VALID_SECONDS,
						.attr_valid = VALID_SECONDS };
		fill_attributes(serving, out->nodeid, &out->attr);
		return 0;
	}
	return -ENOENT;
}

static int answer_init(const struct fuse_init_in *in, struct fuse_init_out *out)
{
	*out = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION,
				       .minor = FUSE_KERNEL_MINOR_VERSION,
				       .max_readahead = in->max_readahead,
				       .flags = in->flags & (FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
							     FUSE_ASYNC_DIO),
				       .max_background = 16,
				       .congestion_threshold = 12,
				       .max_write = PAGE_BYTES,
				       .time_gran = 1,
				       .max_pages = FUSE_READ_MOST / PAGE_BYTES };
	return in->major == FUSE_KERNEL_VERSION ? 0 : -EPROTO;
}

size_t fuse_answer(struct fuse_serving *serving, const void *request, size_t length)
{
	struct fuse_out_header *header = (struct fuse_out_header *)serving->reply;
	uint8_t *out = serving->reply + sizeof(*header);
	union {
		struct fuse_init_in init;
		struct fuse_read_in read;
	} in = { 0 };
	struct fuse_in_header head;
	size_t rest, written = 0;
	int error;

	if (length < sizeof(head))
		return 0;
	memcpy(&head, request, sizeof(head));
	rest = length - sizeof(head);
	memcpy(&in, (const uint8_t *)request + sizeof(head), rest < sizeof(in) ? rest : sizeof(in));
	switch (head.opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		return 0;
	case FUSE_INIT:
		/* Older kernels send less of it. */
		error = rest < 16 ? -EINVAL : answer_init(&in.init, (struct fuse_init_out *)out);
		written = sizeof(struct fuse_init_out);
		break;
	case FUSE_LOOKUP:
		error = head.nodeid == FUSE_ROOT_ID ? answer_lookup(serving, (const char *)request + sizeof(head), rest,
								    (struct fuse_entry_out *)out)
						    : -ENOTDIR;
		written = sizeof(struct fuse_entry_out);
		break;
	case FUSE_GETATTR:
		memset(out, 0, sizeof(struct fuse_attr_out));
		((struct fuse_attr_out *)out)->attr_valid = VALID_SECONDS;
		error = fill_attributes(serving, head.nodeid, &((struct fuse_attr_out *)out)->attr) ? 0 : -ENOENT;
		written = sizeof(struct fuse_attr_out);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		/* Pages that CRIU has read are in a process: a second copy in the page cache would be for nothing. */
		*(struct fuse_open_out *)out =
			(struct fuse_open_out){ .open_flags = head.opcode == FUSE_OPEN ? FOPEN_DIRECT_IO : 0 };
		error = 0;
		written = sizeof(struct fuse_open_out);
		break;
	case FUSE_READ:
	case FUSE_READDIR:
		if (rest < sizeof(in.read))
			error = -EINVAL;
		else if (head.opcode == FUSE_READ)
			error = answer_read(serving, head.nodeid, &in.read, out, &written);
		else
			error = head.nodeid == FUSE_ROOT_ID ? answer_folder(serving, &in.read, out, &written) : -ENOTDIR;
		break;
	case FUSE_STATFS:
		memset(out, 0, sizeof(struct fuse_statfs_out));
		((struct fuse_statfs_out *)out)->st.bsize = PAGE_BYTES;
		((struct fuse_statfs_out *)out)->st.namelen = 255;
		error = 0;
		written = sizeof(struct fuse_statfs_out);
		break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_DESTROY:
		error = 0;
		break;
	default:
		error = -ENOSYS;
	}
	header->len = (uint32_t)(sizeof(*header) + (error ? 0 : written));
	header->error = error;
	header->unique = head.unique;
	return header->len;
}

/* A request that was answered already is unknown to the kernel (ENOENT), as is one whose asker is gone. */
static void serve_request(struct fuse_start_arguments *arguments, size_t length)
{
	bool is_read = ((struct fuse_in_header *)arguments->request)->opcode == FUSE_READ;
	size_t reply = fuse_answer(&arguments->serving, arguments->request, length);

	if (reply > 0)
		RETRY(write(arguments->fd, arguments->serving.reply, reply));
	if (is_read && reply > sizeof(struct fuse_out_header))
		__atomic_fetch_add(arguments->served, reply - sizeof(struct fuse_out_header), __ATOMIC_RELAXED);
	((struct fuse_in_header *)arguments->request)->len = 0;
}

static void *fuse_thread(void *argument)
{
	struct fuse_start_arguments *arguments = argument;
	struct fuse_in_header *left = (struct fuse_in_header *)arguments->request;

	/* What the worker before this one had taken from the kernel, which will not give it a second time. */
	if (left->len >= sizeof(*left) && left->len <= FUSE_REQUEST_BYTES)
		serve_request(arguments, left->len);
	for (;;) {
		struct pollfd waiting = { .fd = arguments->fd, .events = POLLIN };
		ssize_t length;

		RETRY(poll(&waiting, 1, -1));
		length = RETRY(read(arguments->fd, arguments->request, FUSE_REQUEST_BYTES));
		if (length > 0)
			serve_request(arguments, (size_t)length);
		else if (length < 0 && errno != EAGAIN && errno != ENOENT)
			return NULL; /* unmounted */
	}
}

void fuse_start(struct reader *reader, struct pool *pool, int fd, void *shared)
{
	for (unsigned i = 0; i < FUSE_THREADS; i++) {
		struct fuse_start_arguments *arguments = calloc(1, sizeof(*arguments));
		pthread_attr_t attributes;
		pthread_t thread;

		if (!arguments)
			_exit(1);
		*arguments = (struct fuse_start_arguments){ .serving = { .reader = reader, .pool = pool },
							    .fd = fd,
							    .request = fuse_request(shared, i),
							    .served = fuse_served(shared) };
		arguments->serving.reply = malloc(FUSE_REPLY_ROOM);
		arguments->serving.spare = malloc(CHUNK_BYTES);
		pthread_attr_init(&attributes);
		pthread_attr_setstacksize(&attributes, 256 * 1024);
		record_reader_open(&arguments->serving.thread, 1);
		if (!arguments->serving.reply || !arguments->serving.spare ||
		    pthread_create(&thread, &attributes, fuse_thread, arguments) != 0)
			_exit(1);
	}
}
