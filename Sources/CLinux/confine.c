// SPDX-License-Identifier: Apache-2.0
// Two parts of the child's way, under the rule of child.c: nothing but syscall(2).
//
// Masks cover what a full procfs shows of the host; landlock says where may be written. Both name files by path while
// nothing untrusted runs in this mount namespace, and both keep to descriptors from there on: no path is walked twice.

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

// Where a mask goes: beneath /proc, on that mount itself and through no link of any kind.
static long target(int proc, const char *path, int flags) {
    struct open_how how = {
        .flags = (uint64_t)(O_PATH | O_CLOEXEC | flags),
        .mode = 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    return syscall(SYS_openat2, proc, path, &how, sizeof how);
}

static long empty_directory(void) {
    long context = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC), mount = -1;
    if (context < 0) return -1;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "nr_blocks", "1", 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "nr_inodes", "1", 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", "0555", 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0) == 0)
        mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    int error = errno;
    syscall(SYS_close, context);
    errno = error;
    return mount;
}

// A copy of a mount, read-only; `device` is whether opening a device node there may work.
static long copy(int directory, const char *path, int flags, int device) {
    long tree = syscall(SYS_open_tree, directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (unsigned)flags);
    if (tree < 0) return -1;
    struct mount_attr attributes = {
        .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | (device ? 0 : MOUNT_ATTR_NODEV),
    };
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0) return tree;
    int error = errno;
    syscall(SYS_close, tree);
    errno = error;
    return -1;
}

struct open_here {
    long proc, over, cover;
};

static void close_here(long *descriptor) {
    if (*descriptor >= 0) syscall(SYS_close, *descriptor);
    *descriptor = -1;
}

static int mask_all(struct clinux_child *child, struct open_here *here) {
    const struct clinux_plan *plan = child->plan;
    TRY(PROC_MASKS, here->proc = syscall(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    for (size_t i = 0; i < plan->mask_count; i++) {
        const struct clinux_mask *mask = &plan->masks[i];
        here->over = target((int)here->proc, mask->path, mask->kind == CLINUX_MASK_DIRECTORY ? O_DIRECTORY : 0);
        if (here->over < 0 && errno == ENOENT) continue;  // this kernel has none
        TRY(PROC_MASKS, here->over);
        switch (mask->kind) {
        case CLINUX_MASK_FILE: here->cover = copy(AT_FDCWD, "/dev/null", 0, 1); break;
        case CLINUX_MASK_DIRECTORY: here->cover = empty_directory(); break;
        case CLINUX_MASK_READ_ONLY: here->cover = copy((int)here->over, "", AT_EMPTY_PATH, 0); break;
        }
        TRY(PROC_MASKS, here->cover);
        TRY(PROC_MASKS,
            syscall(SYS_move_mount, here->cover, "", here->over, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
        close_here(&here->cover);
        close_here(&here->over);
    }
    return 0;
}

// The table of descriptors is the daemon's still: whatever happens, none stays open.
int clinux_mask_proc(struct clinux_child *child) {
    if (child->plan->mask_count == 0) return 0;
    struct open_here here = {-1, -1, -1};
    int result = mask_all(child, &here);
    close_here(&here.cover);
    close_here(&here.over);
    close_here(&here.proc);
    return result;
}

// struct landlock_ruleset_attr of Linux 6.12, which the headers of Debian 12 do not know whole. Members that a kernel
// does not know have to be zero.
struct ruleset {
    uint64_t handled_files, handled_network, scoped;
};

int clinux_restrict_files(struct clinux_child *child) {
    const struct clinux_landlock *landlock = child->plan->landlock;
    if (!landlock) return 0;
    struct ruleset attributes = {landlock->handled, 0, landlock->scoped};
    long ruleset = -1;
    TRY(LANDLOCK, ruleset = syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0));
    for (size_t i = 0; i < landlock->rule_count; i++) {
        struct landlock_path_beneath_attr rule = {.allowed_access = landlock->rules[i].allowed, .parent_fd = -1};
        TRY(LANDLOCK, rule.parent_fd = (int)syscall(SYS_openat, AT_FDCWD, landlock->rules[i].path,
                                                    O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
        TRY(LANDLOCK, syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0));
        syscall(SYS_close, rule.parent_fd);
    }
    TRY(LANDLOCK, syscall(SYS_landlock_restrict_self, ruleset, 0));
    syscall(SYS_close, ruleset);
    return 0;
}
