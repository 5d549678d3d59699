#include "chunkstream.h"

#include <string.h>

#include "hash.h"

/* Bytes of a payload before what has no fixed length, and how many may come then. */
static bool lengths_of(uint8_t kind, size_t *fixed, size_t *least, size_t *most)
{
	*least = 1;
	switch (kind) {
	case ITEM_CHUNK:
	case ITEM_MEMORY:
		*fixed = sizeof(struct item_chunk);
		*most = CHUNK_BYTES;
		return true;
	case ITEM_FOLDER:
		*fixed = sizeof(struct item_folder);
		*most = ITEM_PATH_MOST;
		return true;
	case ITEM_LINK:
		*fixed = sizeof(struct item_link);
		*least = 2;
		*most = 2 * ITEM_PATH_MOST;
		return true;
	case ITEM_FILE:
		*fixed = sizeof(struct item_file);
		*most = ITEM_PATH_MOST;
		return true;
	case ITEM_ZEROS:
		*fixed = sizeof(struct item_zeros);
		*least = *most = 0;
		return true;
	default:
		return false;
	}
}

static bool is_part_of_file(uint8_t kind)
{
	return kind == ITEM_CHUNK || kind == ITEM_ZEROS;
}

const char *stream_header(const struct stream_parser *parser, const struct item_header *header)
{
	size_t fixed, least, most;

	if (header->zero[0] | header->zero[1] | header->zero[2])
		return "its header is damaged";
	if (!lengths_of(header->kind, &fixed, &least, &most))
		return "it is of no kind that is known here";
	if (header->length < fixed + least || header->length > fixed + most)
		return "its length is not one that its kind can have";
	if (parser->pages_left > 0 && !is_part_of_file(header->kind))
		return "the file before it is not complete";
	if (parser->pages_left == 0 && is_part_of_file(header->kind))
		return "it belongs to no file, or the file is complete already";
	return NULL;
}

/* A relative path without empty parts, "." and "..", copied with a zero behind it. */
static const char *parse_path(const uint8_t *bytes, size_t length, char path[ITEM_PATH_MOST + 1])
{
	if (length == 0 || length > ITEM_PATH_MOST)
		return "its path is empty or too long";
	if (memchr(bytes, '\0', length))
		return "its path has a zero byte in it";
	memcpy(path, bytes, length);
	path[length] = '\0';
	for (const char *part = path;; part++) {
		size_t bytes_of_part = strcspn(part, "/");

		if (bytes_of_part == 0)
			return "its path is absolute, or has an empty part";
		if (part[0] == '.' && (bytes_of_part == 1 || (bytes_of_part == 2 && part[1] == '.')))
			return "its path has a part . or ..";
		part += bytes_of_part;
		if (*part == '\0')
			return NULL;
	}
}

static const char *parse_rights(uint32_t mode, uint32_t owner, struct stream_item *item)
{
	if (mode & ~0777u)
		return "its mode has other bits than permissions";
	if (owner > 1)
		return "its owner is neither root nor the user";
	item->mode = mode;
	item->owner = owner;
	return NULL;
}

static const char *parse_chunk(const uint8_t *payload, size_t length, struct stream_item *item)
{
	struct item_chunk chunk;
	size_t bytes;

	memcpy(&chunk, payload, sizeof(chunk));
	if (chunk.zero != 0 || chunk.codec > CODEC_ZSTD || chunk.pages == 0 || chunk.pages > CHUNK_PAGES)
		return "the chunk's header is damaged";
	bytes = (size_t)chunk.pages * PAGE_BYTES;
	item->stored = payload + sizeof(chunk);
	item->stored_bytes = length - sizeof(chunk);
	if (chunk.codec == CODEC_RAW ? item->stored_bytes != bytes : item->stored_bytes >= bytes)
		return "the chunk's stored bytes are not as many as it can have";
	memcpy(item->id, chunk.id, CHUNK_ID_BYTES);
	item->codec = chunk.codec;
	item->pages = chunk.pages;
	return NULL;
}

static const char *parse_zeros(const uint8_t *payload, struct stream_item *item)
{
	struct item_zeros zeros;

	memcpy(&zeros, payload, sizeof(zeros));
	if (zeros.pages == 0 || zeros.pages > CHUNK_PAGES)
		return "it has not 1 to 16 pages";
	item->pages = zeros.pages;
	return NULL;
}

static const char *parse_folder(const uint8_t *payload, size_t length, struct stream_item *item)
{
	struct item_folder folder;
	const char *wrong;

	memcpy(&folder, payload, sizeof(folder));
	wrong = parse_path(payload + sizeof(folder), length - sizeof(folder), item->path);
	return wrong ? wrong : parse_rights(folder.mode, folder.owner, item);
}

static const char *parse_link(const uint8_t *payload, size_t length, struct stream_item *item)
{
	struct item_link link;
	const uint8_t *target = payload + sizeof(link);
	const char *wrong;

	memcpy(&link, payload, sizeof(link));
	if (link.target_bytes == 0 || link.target_bytes > ITEM_PATH_MOST || link.target_bytes >= length - sizeof(link))
		return "the length of its target cannot be right";
	wrong = parse_path(target + link.target_bytes, length - sizeof(link) - link.target_bytes, item->path);
	if (wrong)
		return wrong;
	if (memchr(target, '\0', link.target_bytes))
		return "its target has a zero byte in it";
	memcpy(item->target, target, link.target_bytes);
	item->target[link.target_bytes] = '\0';
	return parse_rights(0777, link.owner, item);
}

static const char *parse_file(const uint8_t *payload, size_t length, struct stream_item *item)
{
	struct item_file file;
	const char *wrong;

	memcpy(&file, payload, sizeof(file));
	wrong = parse_path(payload + sizeof(file), length - sizeof(file), item->path);
	if (wrong)
		return wrong;
	if (file.bytes > INT64_MAX - CHUNK_BYTES)
		return "it has more bytes than a file can have";
	item->bytes = file.bytes;
	item->mtime = file.mtime;
	return parse_rights(file.mode, file.owner, item);
}

const char *stream_parse(struct stream_parser *parser, const struct item_header *header, const uint8_t *payload,
			 struct stream_item *item)
{
	const char *wrong = stream_header(parser, header);
	size_t length = header->length;

	item->kind = header->kind;
	item->path[0] = '\0';
	if (wrong)
		return wrong;
	switch (item->kind) {
	case ITEM_FOLDER:
		return parse_folder(payload, length, item);
	case ITEM_LINK:
		return parse_link(payload, length, item);
	case ITEM_MEMORY:
		return parse_chunk(payload, length, item);
	case ITEM_FILE:
		wrong = parse_file(payload, length, item);
		if (wrong)
			return wrong;
		parser->pages_left = (item->bytes + PAGE_BYTES - 1) / PAGE_BYTES;
		strcpy(parser->path, item->path);
		return NULL;
	default:
		strcpy(item->path, parser->path);
		wrong = item->kind == ITEM_ZEROS ? parse_zeros(payload, item) : parse_chunk(payload, length, item);
		if (wrong)
			return wrong;
		if (item->pages > parser->pages_left)
			return "the file has fewer pages";
		parser->pages_left -= item->pages;
		return NULL;
	}
}

const char *stream_end(const struct stream_parser *parser)
{
	return parser->pages_left > 0 ? "the stream ends, but the file before is not complete" : NULL;
}

const char *stream_decode(struct codec_state *codec, const struct stream_item *item, uint8_t *out)
{
	if (!codec_unpack(codec, item->codec, item->stored, item->stored_bytes, out, (size_t)item->pages * PAGE_BYTES))
		return "the chunk's bytes are damaged";
	if (!chunk_matches(out, item->pages, item->id))
		return "the chunk's bytes are not those of its id";
	return NULL;
}
