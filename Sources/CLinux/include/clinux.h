// SPDX-License-Identifier: Apache-2.0
// What Swift cannot do by itself: the way from clone3 to execve, and the system calls that glibc does not wrap.
//
// Swift describes, C executes: a plan is a flat record of descriptors, numbers and ready-made strings. Nothing is
// parsed, decided or allocated after clone3.
#ifndef CLINUX_H
#define CLINUX_H

#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Where a launch failed. Swift has an enum of the same order.
enum clinux_step {
    CLINUX_STEP_CLONE = 1,
    CLINUX_STEP_MOUNT_NAMESPACE,
    CLINUX_STEP_PROC,
    CLINUX_STEP_PROC_MASKS,
    CLINUX_STEP_TMP,
    CLINUX_STEP_CONTROL,
    CLINUX_STEP_CODE,
    CLINUX_STEP_LAYERS,
    CLINUX_STEP_RESOLVER,
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
    CLINUX_STEP_LANDLOCK,
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

// One thing below /proc that is covered: by /dev/null, by an empty directory, or by itself without writing.
enum clinux_mask_kind { CLINUX_MASK_FILE, CLINUX_MASK_DIRECTORY, CLINUX_MASK_READ_ONLY };
struct clinux_mask {
    const char *path;  // relative to /proc; one that this kernel lacks is passed over
    int32_t kind;
};

// A landlock domain: `handled` rights (LANDLOCK_ACCESS_FS_*) are refused but beneath the paths of the rules.
struct clinux_path_rule {
    const char *path;
    uint64_t allowed;
};
struct clinux_landlock {
    uint64_t handled;
    uint64_t scoped;  // LANDLOCK_SCOPE_*
    const struct clinux_path_rule *rules;
    size_t rule_count;
};

// Everything that the child needs. Descriptors are borrowed and stay the caller's; strings outlive the call.
struct clinux_plan {
    int32_t cgroup;             // directory of the leaf; the child is born inside it
    int32_t mount_namespace;    // of the template; the child makes its own copy
    int32_t network_namespace;
    int32_t ipc_namespace;
    int32_t uts_namespace;
    int32_t user_namespace;     // entered last
    int32_t code_mount;         // detached mount from clinux_detached_mount, moved to code_target; -1 when it comes later
    const char *code_target;
    int32_t layers_mount;       // another one, moved to /opt; -1 when there is none
    int32_t resolver_mount;     // another one, moved to /etc/resolv.conf; -1 leaves the image's own
    int32_t tmp_mount;          // detached mounts too, moved to /tmp and /run/fn
    int32_t control_mount;
    const char *proc_options;   // of the procfs at /proc
    const struct clinux_mask *masks;
    size_t mask_count;
    const char *working_directory;
    const char *host_name;
    size_t host_name_length;
    int32_t standard_input;
    int32_t standard_output;    // standard error too
    int32_t extension_output;   // becomes descriptor 3, for process 1 to give to extensions; -1 when there is none
    // The highest descriptor that the child reads: its table begins as the daemon's own, of which only what is below is
    // copied. Ten thousand open descriptors would cost 1.6 ms.
    int32_t last_descriptor;
    const struct clinux_rlimit *limits;
    size_t limit_count;
    int32_t last_capability;    // highest number that the running kernel may know
    uint32_t user;              // inside the user namespace
    uint32_t group;
    const struct clinux_landlock *landlock;  // NULL where the kernel has none
    uint64_t ignored_signals;   // of the daemon's, as clinux_ignored_signals says: the child stops ignoring them
    const void *filter;         // a seccomp program: instructions of 8 bytes, owned by the caller
    uint16_t filter_length;     // how many instructions
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

// Which signals this process ignores; bit N - 1 is signal N. A program that is executed ignores them too.
uint64_t clinux_ignored_signals(void);

// The child's side; async-signal-safe. Returns only on failure, with step and error set.
struct clinux_child {
    const struct clinux_plan *plan;
    const volatile int32_t *launcher;  // the futex of the launching thread's life: see clinux_life
    int32_t launcher_id;               // what is in it while that thread lives, without its flags
    volatile int32_t step;
    volatile int32_t error;
#ifdef EBB_FAILPOINTS
    int32_t failing_step;              // 0 for none
    int32_t failing_errno;             // or CLINUX_FAIL_KILL
    volatile int32_t *reached;
#endif
};
int clinux_child_main(void *child);

// The life of a thread, as a robust futex: the kernel marks it when the thread ends, however it ends, and before it
// sends the death signals of its children.
struct clinux_life;
struct clinux_life *clinux_life_of_this_thread(void);  // made at the first call; NULL with errno
void clinux_life_wait(struct clinux_life *life);       // returns when its thread has ended
const volatile int32_t *clinux_life_word(const struct clinux_life *life);  // the thread's id is gone from it then

// In test builds alone: see failpoint.c.
enum { CLINUX_FAIL_KILL = -1, CLINUX_FAIL_TRAP = -2, CLINUX_FAIL_THREAD = -3 };
int clinux_failpoint(const char *place);  // 0, or the errno that is ordered for this place; may not return
int clinux_failing_step(int *action);     // the step of a launch that is to fail, and how; 0 for none

// A detached, read-only, nosuid, nodev copy of the mount at `path`; -1 with errno.
int clinux_detached_mount(const char *path);

// Moves a detached mount to `target` in the mount namespace `there`, and comes back to `home`. For a thread that shares
// its root and working directory with no other (clinux_own_root). 0, or -1 with errno.
int clinux_mount_in(int there, int home, int mount, const char *target);
int clinux_own_root(void);
// What is at `path` beneath `root`, reached through no link and no other mount: ELOOP or EXDEV otherwise. O_PATH.
int clinux_open_beneath(const char *root, const char *path);
// Opens a path below the directory `root` as if that were `/` (openat2, RESOLVE_IN_ROOT): no link and no `..` leads out.
// A descriptor, or -1 with errno.
int clinux_open_in_root(int root, const char *path, int32_t flags);

// A user namespace in which `inside` is `outside` of the host, one user and one group. A descriptor, or -1 with errno.
int clinux_user_namespace(uint32_t inside, uint32_t outside);

// The version of landlock's interface that this kernel has; -1 with errno when it is absent or switched off.
int clinux_landlock_abi(void);

// Thin wrappers for calls that glibc 2.36 lacks or that import badly. -1 with errno.
enum clinux_namespace { CLINUX_MOUNT, CLINUX_NETWORK, CLINUX_SET };  // the set: network, IPC and UTS
int clinux_unshare(enum clinux_namespace which);  // of the calling thread alone
int clinux_memfd(const char *name);
int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options);
int clinux_detach_here(void);
int clinux_pivot_root_here(void);
int clinux_loopback_up(void);
// Takes the calling thread into a network namespace for good, and connects to 127.0.0.1 there. A non-blocking,
// close-on-exec socket; -1 with errno, ETIMEDOUT after `timeout_ms`.
int clinux_connect_inside(int namespace, uint16_t port, int timeout_ms);
int clinux_open_pidfd(int32_t pid);  // close-on-exec
int clinux_signal_pidfd(int pidfd, int signal);
int clinux_wait_pidfd(int pidfd, int32_t *code, int32_t *status);
int clinux_make_node(const char *path, uint32_t mode, uint32_t major, uint32_t minor);
int clinux_statfs_is_cgroup2(const char *path);
int clinux_pipe(int32_t ends[2]);
// Closes all descriptors from the first to the last.
int clinux_close_range(uint32_t first, uint32_t last);
int clinux_dup_over(int descriptor, int target);  // close-on-exec
int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int fd, int priority, uint64_t id);  // EPOLLPRI or EPOLLIN, level-triggered
int clinux_epoll_remove(int epoll, int fd);
int clinux_epoll_wait(int epoll, uint64_t *ids, int count);          // how many of `ids` are set; waits for ever
int clinux_eventfd(void);
pid_t clinux_peer_process(int socket);  // who connected to it, or listens at its other end (unix(7)); 0: not seen from here
// Kills the calling process when `parent` has ended, now if it has: -1 where that cannot be asked for.
int clinux_die_with(pid_t parent);
int clinux_spawn_close_from(posix_spawn_file_actions_t *actions, int first);  // Swift's Glibc does not have it
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
int clinux_limit_processes(pid_t pid, uint64_t limit);  // RLIMIT_NPROC of a process, soft and hard
int clinux_background_thread(void);     // nice 10, for the calling thread alone

// Networks. A socket belongs to the network namespace of the thread that made it, for ever. Addresses are IPv4 in host
// byte order; -1 with errno.
int clinux_route_socket(void);
int clinux_conntrack_socket(void);
int clinux_enter_network(int network_namespace);  // the calling thread alone
// A pair of ends: `name`, which is up, where the socket is; `peer`, which is not, in the other namespace.
int clinux_veth(int route_socket, const char *name, const char *peer, int peer_namespace);
int clinux_link_up(int route_socket, const char *name);
int clinux_remove_link(int route_socket, const char *name);
int clinux_add_address(int route_socket, const char *name, uint32_t address, uint8_t prefix);
int clinux_default_route(int route_socket, uint32_t gateway);
int clinux_forget_connections(int conntrack_socket, uint32_t mark);  // all that have this mark

#endif
