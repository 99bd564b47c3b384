// SPDX-License-Identifier: Apache-2.0
// The child between clone3 and execve. It shares the daemon's memory and runs while the cloning thread is suspended,
// so it may call nothing that locks or allocates: every call here is syscall(2). `nm -u` of this object proves it.

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "child.h"

// From <sys/mount.h>, which clashes with <linux/mount.h> on glibc 2.36.
#define MOUNT_NOSUID 2
#define MOUNT_NODEV 4
#define MOUNT_NOEXEC 8

// The limit of 64 descriptions, of which the kernel checks the whole struct.
struct limit64 {
    uint64_t soft, hard;
};

#ifdef EBB_FAILPOINTS
// Fails, or has the daemon killed by a thread of its own (this process has no name for it in its own pid namespace) and
// then goes on, as it would if the kill had come from anywhere.
int clinux_child_failpoint(struct clinux_child *child) {
    if (child->step != child->failing_step) return 0;
    if (child->failing_errno > 0) {
        errno = child->failing_errno;
        return -1;
    }
    child->failing_step = 0;
    *child->reached = 1;
    struct timespec while_it_dies = {0, 300000000};
    syscall(SYS_nanosleep, &while_it_dies, 0);
    return 0;
}
#endif

static int filesystems(struct clinux_child *child) {
    const struct clinux_plan *plan = child->plan;
    TRY(MOUNT_NAMESPACE, syscall(SYS_setns, plan->mount_namespace, CLONE_NEWNS));
    // The template stays as it is: what is mounted from here on belongs to this sandbox alone.
    TRY(MOUNT_NAMESPACE, syscall(SYS_unshare, CLONE_NEWNS));
    // After clone3 made the pid namespace: procfs shows the one it is mounted from.
    TRY(PROC, syscall(SYS_mount, "proc", "/proc", "proc", MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC,
                      plan->proc_options));
    if (clinux_mask_proc(child) < 0) return -1;
    TRY(TMP, syscall(SYS_move_mount, plan->tmp_mount, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH));
    TRY(CONTROL, syscall(SYS_move_mount, plan->control_mount, "", AT_FDCWD, "/run/fn", MOVE_MOUNT_F_EMPTY_PATH));
    if (plan->code_mount >= 0)
        TRY(CODE, syscall(SYS_move_mount, plan->code_mount, "", AT_FDCWD, plan->code_target, MOVE_MOUNT_F_EMPTY_PATH));
    if (plan->layers_mount >= 0)
        TRY(LAYERS, syscall(SYS_move_mount, plan->layers_mount, "", AT_FDCWD, "/opt", MOVE_MOUNT_F_EMPTY_PATH));
    if (plan->resolver_mount >= 0)
        TRY(RESOLVER, syscall(SYS_move_mount, plan->resolver_mount, "", AT_FDCWD, "/etc/resolv.conf",
                              MOVE_MOUNT_F_EMPTY_PATH));
    // An image may name any directory and put links on the way to it: while the daemon's descriptors are still open, the
    // magic ones of procfs would lead out of the sandbox (CVE-2024-21626).
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
    long directory;
    TRY(WORKING_DIRECTORY, directory = syscall(SYS_openat2, AT_FDCWD, plan->working_directory, &how, sizeof how));
    long changed = syscall(SYS_fchdir, directory);
    int error = errno;
    syscall(SYS_close, directory);  // of the daemon's table, still
    errno = error;
    TRY(WORKING_DIRECTORY, changed);
    return 0;
}

static int namespaces(struct clinux_child *child) {
    const struct clinux_plan *plan = child->plan;
    TRY(NETWORK_NAMESPACE, syscall(SYS_setns, plan->network_namespace, CLONE_NEWNET));
    TRY(IPC_NAMESPACE, syscall(SYS_setns, plan->ipc_namespace, CLONE_NEWIPC));
    TRY(UTS_NAMESPACE, syscall(SYS_setns, plan->uts_namespace, CLONE_NEWUTS));
    TRY(UTS_NAMESPACE, syscall(SYS_sethostname, plan->host_name, plan->host_name_length));
    return 0;
}

static int session(struct clinux_child *child) {
    const struct clinux_plan *plan = child->plan;
    for (size_t i = 0; i < plan->limit_count; i++) {
        struct limit64 wanted = {plan->limits[i].limit, plan->limits[i].limit}, now = {0, 0};
        TRY(RESOURCE_LIMITS, syscall(SYS_prlimit64, 0, plan->limits[i].resource, 0, &now));
        // Raising a hard limit takes CAP_SYS_RESOURCE, which the daemon may not have.
        if (wanted.hard > now.hard) wanted.hard = wanted.soft = now.hard;
        TRY(RESOURCE_LIMITS, syscall(SYS_prlimit64, 0, plan->limits[i].resource, &wanted, 0));
    }
    TRY(SESSION, syscall(SYS_setsid));
    // A keyring of its own, or it would share the daemon's.
    TRY(KEYRING, syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0));
    // If the host runs out of memory a function goes before the daemon. Raising the score needs no privilege.
    long score = syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
    if (score >= 0) {
        syscall(SYS_write, score, "500", 3);
        syscall(SYS_close, score);  // of the daemon's table, still
    }
    // Last of the namespaces: those before it are then owned by the initial user namespace, and no capability that
    // this one may ever regain reaches them.
    TRY(USER_NAMESPACE, syscall(SYS_setns, plan->user_namespace, CLONE_NEWUSER));
    return 0;
}

static int descriptors(struct clinux_child *child) {
    const struct clinux_plan *plan = child->plan;
    // Until here the table is the daemon's: from here on its own, without all that was above.
    TRY(DESCRIPTORS, syscall(SYS_close_range, plan->last_descriptor + 1, ~0u, CLOSE_RANGE_UNSHARE));
    TRY(DESCRIPTORS, syscall(SYS_dup3, plan->standard_input, 0, 0));
    TRY(DESCRIPTORS, syscall(SYS_dup3, plan->standard_output, 1, 0));
    TRY(DESCRIPTORS, syscall(SYS_dup3, plan->standard_output, 2, 0));
    unsigned first = 3;
    if (plan->extension_output >= 0) {
        // dup3 refuses a descriptor that is in its place already: that one only has to survive execve.
        if (plan->extension_output == 3)
            TRY(DESCRIPTORS, syscall(SYS_fcntl, 3, F_SETFD, 0));
        else
            TRY(DESCRIPTORS, syscall(SYS_dup3, plan->extension_output, 3, 0));
        first = 4;
    }
    TRY(DESCRIPTORS, syscall(SYS_close_range, first, ~0u, 0));
    return 0;
}

static int privileges(struct clinux_child *child) {
    const struct clinux_plan *plan = child->plan;
    // Before the user changes: setting securebits needs CAP_SETPCAP in this user namespace.
    TRY(SECUREBITS, syscall(SYS_prctl, PR_SET_SECUREBITS,
                            SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
                            0, 0, 0));
    TRY(BOUNDING_SET, 0);
    for (int capability = 0; capability <= plan->last_capability; capability++) {
        if (syscall(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
            if (errno == EINVAL) break;  // past the last one that this kernel knows
            child->error = errno;
            return -1;
        }
    }
    TRY(IDENTITY, syscall(SYS_setgroups, 0, 0));
    TRY(IDENTITY, syscall(SYS_setresgid, plan->group, plan->group, plan->group));
    TRY(IDENTITY, syscall(SYS_setresuid, plan->user, plan->user, plan->user));
    // NO_SETUID_FIXUP keeps capabilities across the change of user: all five sets are emptied by hand.
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    TRY(CAPABILITIES, syscall(SYS_capset, &header, none));
    TRY(NO_NEW_PRIVILEGES, syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (clinux_restrict_files(child) < 0) return -1;
    // After the last change of credentials: commit_creds() clears it (kernel/cred.c).
    TRY(PARENT_DEATH_SIGNAL, syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    // Who died before that sends no signal any more, and nobody would end this process: the futex of the launcher's life
    // is looked at after the signal is ordered, and the kernel takes the thread's id out of it before it sends the signal.
    if ((*child->launcher & FUTEX_TID_MASK) != child->launcher_id) {
        child->error = ESRCH;
        return -1;
    }
    return 0;
}

static int signals_and_filters(struct clinux_child *child) {
    const struct clinux_plan *plan = child->plan;
    // CLONE_CLEAR_SIGHAND resets handlers, not what is ignored; and the launcher blocks everything.
    struct kernel_sigaction standard = {0, 0, 0, 0};  // the default action
    for (int number = 1; number <= 64; number++)
        if (plan->ignored_signals >> (number - 1) & 1) TRY(SIGNALS, syscall(SYS_rt_sigaction, number, &standard, 0, 8));
    uint64_t none = 0;
    TRY(SIGNALS, syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8));
    syscall(SYS_umask, 022);
    struct sock_fprog program = {plan->filter_length, (struct sock_filter *)plan->filter};
    TRY(SECCOMP, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    return 0;
}

int clinux_child_main(void *argument) {
    struct clinux_child *child = argument;
    const struct clinux_plan *plan = child->plan;
    if (filesystems(child) < 0 || namespaces(child) < 0 || session(child) < 0 || descriptors(child) < 0 ||
        privileges(child) < 0 || signals_and_filters(child) < 0)
        return -1;
    TRY(EXEC, syscall(SYS_execve, plan->executable, plan->arguments, plan->environment));
    return 0;
}
