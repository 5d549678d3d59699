/*
 * What lies on the disk of a store of pages; docs/store-format.md describes it for people. All numbers are
 * little-endian, all structures are packed as they stand here, and there is no padding between records, so that no
 * byte of a file goes unchecked.
 */
#ifndef TORPOR_PAGES_FORMAT_H
#define TORPOR_PAGES_FORMAT_H

#include <stdint.h>

#define PAGE_BYTES 4096u
/* A chunk holds at most as many pages as an address-aligned window of 64 KiB. */
#define CHUNK_PAGES 16u
#define CHUNK_BYTES (PAGE_BYTES * CHUNK_PAGES)

#define PAGE_HASH_BYTES 16u /* the first half of the SHA-256 of the page */
#define CHUNK_ID_BYTES 32u  /* the SHA-256 of its pages' hashes, one after the other */
#define PACK_ID_BYTES 16u   /* random; in file names as 32 hexadecimal digits */
#define CHECK_BYTES 8u      /* the beginning of the SHA-256 of what stands before it in the same structure */

#define PACKS_VERSION 1u

enum codec { CODEC_RAW = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2 };
/*
 * The stored bytes are a nonce (12 bytes), what AES-256-GCM made of them, and its tag (16 bytes); authenticated with them
 * are codec and pages (a byte each) and id. All records of a pack are encrypted, by the key that its header names, or
 * none. The id of an encrypted chunk need not be a hash of its pages: they are compared with the tag.
 */
#define RECORD_ENCRYPTED 1u

/* packs/ID.pack begins with this; records follow up to the end of the file. */
struct pack_header {
	char magic[8]; /* "TORPORPK" */
	uint32_t version;
	uint32_t reserved; /* 0 */
	uint8_t id[PACK_ID_BYTES];
	uint8_t key_id[16]; /* of the key that encrypted records need; zeros where there are none */
	uint8_t zero[8];
	uint8_t check[CHECK_BYTES];
} __attribute__((packed));

/* One chunk; `stored` bytes of data follow. */
struct record_header {
	uint32_t magic; /* RECORD_MAGIC */
	uint8_t codec;
	uint8_t pages; /* 1 to CHUNK_PAGES */
	uint16_t flags;
	uint32_t stored; /* bytes that follow */
	uint32_t reserved; /* 0 */
	uint8_t id[CHUNK_ID_BYTES];
	uint8_t zero[8];
	uint8_t check[CHECK_BYTES];
} __attribute__((packed));
#define RECORD_MAGIC 0x31435054u /* "TPC1" */

/* packs/ID.idx: a header, entries sorted by id, and the SHA-256 of all that. Made anew from the pack where it is lost. */
struct idx_header {
	char magic[8]; /* "TORPORIX" */
	uint32_t version;
	uint32_t reserved; /* 0 */
	uint8_t pack_id[PACK_ID_BYTES];
	uint64_t pack_bytes; /* length of the pack file */
	uint64_t entries;
} __attribute__((packed));

struct idx_entry {
	uint8_t id[CHUNK_ID_BYTES];
	uint64_t offset; /* of the record's header in the pack */
	uint32_t stored;
	uint8_t codec;
	uint8_t pages;
	uint16_t flags;
} __attribute__((packed));
#define IDX_DIGEST_BYTES 32u

/*
 * A snapshot's folder has pages/entries, pages/places, pages/hashes and pages/chunks. Their lengths and SHA-256 stand
 * in the manifest, which has a MAC; so they have no checks of their own.
 *
 * entries: a record IMAGE for each pagemap image, followed by its entries in ascending order of addresses.
 */
enum page_record_kind { PAGES_IMAGE = 1, PAGES_ENTRY = 2 };

struct pages_image {
	uint32_t kind;     /* PAGES_IMAGE */
	uint32_t pages_id; /* N of images/pages-N.img */
	uint64_t dst_id;   /* as CRIU's page server counts: id << 8 | its kind */
	uint64_t first_page; /* where its pages begin in places and hashes */
	uint64_t reserved;   /* 0 */
} __attribute__((packed));

#define KIND_OF(dst_id) ((unsigned)((dst_id) & 0xff))
#define KIND_PROCESS 1u
#define KIND_SHARED 2u

struct pages_entry {
	uint32_t kind;  /* PAGES_ENTRY */
	uint32_t flags; /* CRIU's: ENTRY_LAZY, ENTRY_PRESENT */
	uint64_t vaddr;
	uint64_t pages; /* how many */
	uint64_t first_page; /* of the first one in places and hashes */
} __attribute__((packed));
#define ENTRY_LAZY 2u
#define ENTRY_PRESENT 4u

/* places: one of these for each page: number of the chunk in `chunks` << 4 | number of the page in the chunk. */
typedef uint32_t page_place;
#define PLACE_ZERO 0xffffffffu
/* hashes: PAGE_HASH_BYTES for each page; zeros for a page of zeros. */
/* chunks: CHUNK_ID_BYTES for each chunk that the snapshot needs, each once. */

/*
 * Pages that CRIU need not send, as the parent has them: what had not been fetched when a process was frozen that is being
 * resumed lazily (torpor-pager writes it), or not been written since (torpor-unwritten does). torpor-pages receive reads
 * it; sorted by dst_id and vaddr.
 */
struct unfetched_range {
	uint64_t dst_id;
	uint64_t vaddr;
	uint64_t pages;
	uint64_t first_page; /* in places and hashes of that snapshot */
} __attribute__((packed));

#endif
