#include "identity.h"

#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common.h"
#include "seccomp.h"

void become(const struct identity *identity)
{
	if (setgroups(identity->group_count, identity->groups) < 0)
		die_with_error("setting the groups");
	/* While there is still the right to: without no_new_privs a filter needs CAP_SYS_ADMIN. */
	if (identity->uid != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die_with_error("forbidding new privileges");
	if (setresgid(identity->gid, identity->gid, identity->gid) < 0)
		die_with_error("becoming group %u", identity->gid);
	if (setresuid(identity->uid, identity->uid, identity->uid) < 0)
		die_with_error("becoming user %u", identity->uid);
	install_capsule_filter();
}
