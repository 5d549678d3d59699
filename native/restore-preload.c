/*
 * libtorpor-restore.so, preloaded into a CRIU that restores: whatever CRIU traces ends with CRIU. Without it a CRIU that
 * is killed just before it is done lets all processes go, and they run, until the engine ends them, what they will run
 * again when their snapshot is resumed the next time. The kernel forgets the option when CRIU detaches (ptrace(2)).
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/ptrace.h>

static long (*real_ptrace)(enum __ptrace_request, ...);

__attribute__((constructor)) static void resolve(void)
{
	*(void **)&real_ptrace = dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	va_start(list, request);
	long pid = va_arg(list, long), address = va_arg(list, long), data = va_arg(list, long);
	va_end(list);
	/* What CRIU traces it either seizes or sets options of, before it first lets it run. */
	if (request == PTRACE_SEIZE || request == PTRACE_SETOPTIONS)
		data |= PTRACE_O_EXITKILL;
	return real_ptrace(request, pid, address, data);
}
