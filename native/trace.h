/*
 * What libtorpor-trace.so in CRIU and torpor-tracer say to each other: one mailbox in shared memory, with one request
 * at a time, and a SOCK_SEQPACKET pair between them. Whoever has nothing to do says in the mailbox that it sleeps and
 * then receives from the socket, where the other sends it a byte; the end of the other is the end of the socket. Both
 * keep to one processor, on which the one goes on where the other goes to sleep: to wake a second one takes ten times
 * as long, and there are thousands of requests in a dump. The first packet, from CRIU, is a struct trace_hello with descriptors of the mailbox and of CRIU's process.
 */
#ifndef TORPOR_TRACE_H
#define TORPOR_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The environment of CRIU: the number of its end of the socket. The tracer's is always the same. */
#define TRACE_SOCKET_VARIABLE "TORPOR_TRACER_SOCKET"
#define TRACER_SOCKET 3

/* The largest is a seccomp filter: 4096 instructions of 8 bytes. */
#define TRACE_BYTES 65536

struct trace_hello {
	pid_t criu;
	/* CRIU leads a process group of its own, which may be ended with it. */
	bool leads_group;
	/* The processor it keeps to; -1 where it may not choose. */
	int processor;
};

enum trace_kind {
	/* ptrace(request, pid, address, data); answered by `result` and `error`. */
	TRACE_PTRACE,
	/* waitpid(pid, &status, request | WNOHANG); the same. */
	TRACE_WAIT,
};

struct trace_mailbox {
	/* Requests put in and answered so far, and changes of state of tracees. */
	_Atomic uint32_t requested;
	_Atomic uint32_t answered;
	_Atomic uint32_t events;
	_Atomic uint32_t criu_sleeps;
	_Atomic uint32_t tracer_sleeps;

	enum trace_kind kind;
	long request;
	pid_t pid;
	uint64_t address;
	uint64_t data;
	int64_t result;
	int error;
	int status;
	/* What `data` points to, or room for it. */
	uint32_t length;
	unsigned char bytes[TRACE_BYTES];
};

#endif
