// SPDX-License-Identifier: Apache-2.0
// What Swift cannot do by itself: the way from clone3 to execve, and the system calls that glibc does not wrap.
//
// Swift describes, C executes: a plan is a flat record of descriptors, numbers and ready-made strings. Nothing is
// parsed, decided or allocated after clone3.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Where a launch failed. Swift has an enum of the same order.
enum clinux_step {
    CLINUX_STEP_CLONE = 1,
    CLINUX_STEP_MOUNT_NAMESPACE,
    CLINUX_STEP_PROC,
    CLINUX_STEP_TMP,
    CLINUX_STEP_CONTROL,
    CLINUX_STEP_CODE,
    CLINUX_STEP_LAYERS,
    CLINUX_STEP_WORKING_DIRECTORY,
    CLINUX_STEP_NETWORK_NAMESPACE,
    CLINUX_STEP_IPC_NAMESPACE,
    CLINUX_STEP_UTS_NAMESPACE,
    CLINUX_STEP_RESOURCE_LIMITS,
    CLINUX_STEP_SESSION,
    CLINUX_STEP_KEYRING,
    CLINUX_STEP_USER_NAMESPACE,
    CLINUX_STEP_DESCRIPTORS,
    CLINUX_STEP_SECUREBITS,
    CLINUX_STEP_BOUNDING_SET,
    CLINUX_STEP_IDENTITY,
    CLINUX_STEP_CAPABILITIES,
    CLINUX_STEP_NO_NEW_PRIVILEGES,
    CLINUX_STEP_PARENT_DEATH_SIGNAL,
    CLINUX_STEP_SIGNALS,
    CLINUX_STEP_SECCOMP,
    CLINUX_STEP_EXEC,
};

// One resource limit; hard and soft limit are the same. Only ever lowered.
struct clinux_rlimit {
    int32_t resource;
    uint64_t limit;
};

// One seccomp program: `length` instructions of 8 bytes, owned by the caller.
struct clinux_filter {
    const void *instructions;
    uint16_t length;
};

// Everything that the child needs. Descriptors are borrowed and stay the caller's; strings outlive the call.
struct clinux_plan {
    int32_t cgroup;             // directory of the leaf; the child is born inside it
    int32_t mount_namespace;    // of the template; the child makes its own copy
    int32_t network_namespace;
    int32_t ipc_namespace;
    int32_t uts_namespace;
    int32_t user_namespace;     // entered last
    int32_t code_mount;         // detached mount from clinux_detached_mount, moved to code_target; -1 when there is none
    const char *code_target;
    int32_t layers_mount;       // another one, moved to /opt; -1 when there is none
    int32_t tmp_mount;          // detached mounts too, moved to /tmp and /run/fn
    int32_t control_mount;
    const char *working_directory;
    int32_t standard_input;
    int32_t standard_output;    // standard error too
    const struct clinux_rlimit *limits;
    size_t limit_count;
    int32_t last_capability;    // highest number that the running kernel may know
    uint32_t user;              // inside the user namespace
    uint32_t group;
    const struct clinux_filter *filters;
    size_t filter_count;
    const char *executable;
    const char *const *arguments;    // ends with NULL
    const char *const *environment;  // ends with NULL
};

// What became of a launch: pid and pidfd, or the step that failed and its errno.
struct clinux_launched {
    int32_t pid;
    int32_t pidfd;  // close-on-exec; the caller's
    int32_t step;
    int32_t error;
};

// Runs the plan; returns when the child has executed or failed. 0, or -1 with step and error set.
// The calling thread must live as long as the child is wanted: its death kills the child (PR_SET_PDEATHSIG).
int clinux_launch(const struct clinux_plan *plan, struct clinux_launched *launched);

// The child's side; async-signal-safe. Returns only on failure, with step and error set.
struct clinux_child {
    const struct clinux_plan *plan;
    volatile int32_t step;
    volatile int32_t error;
};
int clinux_child_main(void *child);

// A detached, read-only, nosuid, nodev copy of the mount at `path`; -1 with errno.
int clinux_detached_mount(const char *path);

// Opens a path below the directory `root` as if that were `/` (openat2, RESOLVE_IN_ROOT): no link and no `..` leads out.
// A descriptor, or -1 with errno.
int clinux_open_in_root(int root, const char *path, int32_t flags);

// A user namespace in which `inside` is `outside` of the host, one user and one group. A descriptor, or -1 with errno.
int clinux_user_namespace(uint32_t inside, uint32_t outside);

// Thin wrappers for calls that glibc 2.36 lacks or that import badly. -1 with errno.
enum clinux_namespace { CLINUX_MOUNT, CLINUX_NETWORK, CLINUX_IPC_AND_UTS };
int clinux_unshare(enum clinux_namespace which);  // of the calling thread alone
int clinux_memfd(const char *name);
int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options);
int clinux_detach_here(void);
int clinux_pivot_root_here(void);
int clinux_loopback_up(void);
int clinux_wait_pidfd(int pidfd, int32_t *code, int32_t *status);
int clinux_make_node(const char *path, uint32_t mode, uint32_t major, uint32_t minor);
int clinux_statfs_is_cgroup2(const char *path);
int clinux_pipe(int32_t ends[2]);
int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int fd, int priority, uint64_t id);  // EPOLLPRI or EPOLLIN, level-triggered
int clinux_epoll_remove(int epoll, int fd);
int clinux_epoll_wait(int epoll, uint64_t *ids, int count);          // how many of `ids` are set; waits for ever
int clinux_eventfd(void);
void clinux_not_dumpable(void);         // no core dumps, no debugger, no look into /proc/self
int clinux_forget_start(int fd, int64_t size);  // gives back what a file's first bytes take on disk, if it can
int clinux_sync_file_system(int fd);  // of the file system that holds fd
void clinux_name_thread(const char *name);
// Asks the kernel to bring ranges of another process back from swap (process_madvise, MADV_WILLNEED). At most 256.
int clinux_will_need(pid_t pid, const uint64_t *starts, const uint64_t *lengths, size_t count);
// A tmpfs that is mounted nowhere yet: a descriptor for move_mount, fspick and openat. Size in bytes.
int clinux_detached_tmpfs(uint64_t size, const char *mode, int read_only_inside);
int clinux_resize_tmpfs(int mount, uint64_t size);  // EINVAL when more than that is in it
int clinux_raise_descriptor_limit(void);            // the soft limit to the hard one
int clinux_background_thread(void);     // nice 10, for the calling thread alone

#endif
