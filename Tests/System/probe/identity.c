// SPDX-License-Identifier: Apache-2.0
// Users, privileges, limits; and facts about this process.
#include <dirent.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "probe.h"

PROBE(become_root) { return syscall(SYS_setresuid, 0, 0, 0); }
PROBE(become_another) { return syscall(SYS_setresuid, 12345, 12345, 12345); }
PROBE(set_groups) {
    gid_t group = 1000;
    return setgroups(1, &group);
}
PROBE(give_away) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/ebb-own-%d", getpid());
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    long result = fchown(file, 12345, 12345);
    int error = errno;
    unlink(path);
    errno = error;
    return result;
}
PROBE(take_capabilities) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct some[2] = {{1u << CAP_CHOWN, 1u << CAP_CHOWN, 1u << CAP_CHOWN}, {0, 0, 0}};
    return syscall(SYS_capset, &header, some);
}
PROBE(ambient_capability) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct some[2] = {{1u << CAP_CHOWN, 1u << CAP_CHOWN, 1u << CAP_CHOWN}, {0, 0, 0}};
    syscall(SYS_capset, &header, some);
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0);
}
PROBE(unlock_securebits) { return prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS, 0, 0, 0); }
PROBE(drop_bounding) { return prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0); }

PROBE(raise_core_limit) {
    struct rlimit limit = {1, 1};
    return setrlimit(RLIMIT_CORE, &limit);
}
PROBE(lock_memory) {
    void *pages = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mlock(pages, 1 << 20);
}
PROBE(raise_priority) { return setpriority(PRIO_PROCESS, 0, -10); }
PROBE(real_time) {
    struct sched_param parameters = {1};
    return sched_setscheduler(0, SCHED_RR, &parameters);
}
PROBE(real_time_io) { return syscall(SYS_ioprio_set, 1, 0, 1 << 13); }
PROBE(message_queue) {
    mqd_t queue = mq_open("/ebb-probe", O_CREAT | O_RDWR, 0600, 0);
    return queue < 0 ? -1 : mq_unlink("/ebb-probe");
}
PROBE(shared_memory) {
    int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    return segment < 0 ? -1 : shmctl(segment, IPC_RMID, 0);
}

static void status_line(const char *fact, const char *key) {
    char line[256], found[256] = "";
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status)) {
        if (strncmp(line, key, strlen(key)) || line[strlen(key)] != ':') continue;
        char *value = line + strlen(key) + 1;
        value += strspn(value, " \t");
        value[strcspn(value, "\n")] = 0;
        for (char *c = value; *c; c++) *c = *c == '\t' ? ' ' : *c;
        snprintf(found, sizeof found, "%s", value);
    }
    if (status) fclose(status);
    add_fact(fact, found);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void listing(const char *fact, const char *path, int with_device) {
    struct dirent **entries;
    char text[1024] = "";
    int count = scandir(path, &entries, 0, by_name);
    for (int i = 0; i < count; i++) {
        struct stat info;
        char name[300];
        size_t used = strlen(text);
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] == '.' || lstat(name, &info) < 0) continue;
        if (with_device && !S_ISLNK(info.st_mode))
            snprintf(text + used, sizeof text - used, "%s%s=%u:%u:%o", used ? " " : "", entries[i]->d_name,
                     major(info.st_rdev), minor(info.st_rdev), info.st_mode);
        else
            snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "", entries[i]->d_name);
    }
    add_fact(fact, text);
}

void collect_facts(void) {
    static const char *const lines[] = {"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                                        "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn"};
    char text[256];
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
        snprintf(text, sizeof text, "fact %s", lines[i]);
        status_line(text, lines[i]);
    }
    snprintf(text, sizeof text, "%#x", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    add_fact("fact securebits", text);
    int bounding = 0;
    for (int number = 0; number < 64; number++) bounding += prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1;
    snprintf(text, sizeof text, "%d", bounding);
    add_fact("fact capabilities in the bounding set", text);
    add_fact("fact working directory", getcwd(text, sizeof text) ? text : "unknown");
    listing("fact descriptors", "/proc/self/fd", 0);
    listing("fact devices", "/dev", 1);
}
