// SPDX-License-Identifier: Apache-2.0
// Files, directories and devices.
#include <dirent.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "probe.h"

// Whether there is anything to read: ENODATA for an empty file or directory.
static long reads(const char *path) {
    char byte;
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) return -1;
    ssize_t count = read(file, &byte, 1);
    if (count == 0) errno = ENODATA;
    return count > 0 ? 0 : -1;
}
static long lists(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return -1;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    if (count == 0) errno = ENODATA;
    return count > 0 ? 0 : -1;
}
// Opens for writing, and writes nothing.
static long opens(const char *path) { return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC); }
// Makes a file and removes it again.
static long makes(const char *directory) {
    char path[256];
    snprintf(path, sizeof path, "%s/ebb-probe-%d", directory, getpid());
    int file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) return -1;
    return unlink(path);
}

// The kernel's settings and memory, through /proc.
PROBE(proc_core_pattern) { return opens("/proc/sys/kernel/core_pattern"); }
PROBE(proc_modprobe) { return opens("/proc/sys/kernel/modprobe"); }
PROBE(proc_randomize) { return opens("/proc/sys/kernel/randomize_va_space"); }
PROBE(proc_binfmt) { return lists("/proc/sys/fs/binfmt_misc"); }
PROBE(proc_sysrq) { return opens("/proc/sysrq-trigger"); }
PROBE(proc_ostype) { return reads("/proc/sys/kernel/ostype"); }
PROBE(proc_meminfo) { return reads("/proc/meminfo"); }
PROBE(proc_cpuinfo) { return reads("/proc/cpuinfo"); }
PROBE(proc_kcore) { return reads("/proc/kcore"); }
PROBE(proc_keys) {
    syscall(SYS_add_key, "user", "ebb-probe", "x", 1, -2 /* the process's own keyring */);  // so that there is one
    return reads("/proc/keys");
}
PROBE(proc_key_users) { return reads("/proc/key-users"); }
PROBE(proc_kallsyms) { return reads("/proc/kallsyms"); }
PROBE(proc_kmsg) { return reads("/proc/kmsg"); }
PROBE(proc_interrupts) { return reads("/proc/interrupts"); }
PROBE(proc_timer_list) { return reads("/proc/timer_list"); }
PROBE(proc_slabinfo) { return reads("/proc/slabinfo"); }
PROBE(proc_vmallocinfo) { return reads("/proc/vmallocinfo"); }
PROBE(proc_kpagecount) { return reads("/proc/kpagecount"); }
PROBE(proc_iomem) { return reads("/proc/iomem"); }
PROBE(proc_cmdline) { return reads("/proc/cmdline"); }
PROBE(proc_irq) { return opens("/proc/irq/default_smp_affinity"); }
PROBE(proc_acpi) { return lists("/proc/acpi"); }
PROBE(proc_driver) { return lists("/proc/driver"); }
PROBE(proc_pressure) { return lists("/proc/pressure"); }

// Process 1 and oneself.
PROBE(proc_1_exe) {
    char path[256];
    return readlink("/proc/1/exe", path, sizeof path);
}
PROBE(proc_1_root) { return lists("/proc/1/root"); }
PROBE(proc_1_cwd) { return lists("/proc/1/cwd"); }
PROBE(proc_1_fd) { return lists("/proc/1/fd"); }
PROBE(proc_1_environ) { return reads("/proc/1/environ"); }
PROBE(proc_1_maps) { return reads("/proc/1/maps"); }
PROBE(proc_self_exe) { return opens("/proc/self/exe"); }
PROBE(proc_self_exe_of_parent) { return opens("/proc/1/exe"); }
PROBE(proc_self_status) { return reads("/proc/self/status"); }
PROBE(proc_self_mem) { return open("/proc/self/mem", O_RDWR | O_CLOEXEC); }
PROBE(proc_self_comm) { return opens("/proc/self/comm"); }
PROBE(proc_self_oom_score) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return file < 0 ? -1 : write(file, "400", 3);
}
PROBE(proc_self_uid_map) { return opens("/proc/self/uid_map"); }

// Devices, control groups, sysfs.
PROBE(sys) { return lists("/sys"); }
PROBE(sys_cgroup) { return lists("/sys/fs/cgroup"); }
PROBE(sys_uevent_helper) { return lists("/sys/kernel"); }
PROBE(sys_firmware) { return lists("/sys/firmware"); }
PROBE(dev_null) { return opens("/dev/null"); }
PROBE(dev_urandom) { return reads("/dev/urandom"); }
PROBE(dev_stdout) { return opens("/dev/stdout"); }
PROBE(dev_kmsg) { return reads("/dev/kmsg"); }
PROBE(dev_ptmx) { return opens("/dev/ptmx"); }
PROBE(dev_pts) { return lists("/dev/pts"); }
PROBE(dev_chmod) { return chmod("/dev/null", 0600) < 0 ? -1 : chmod("/dev/null", 0666); }
static long node(mode_t kind, unsigned major, unsigned minor) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/ebb-node-%d", getpid());
    return mknod(path, kind | 0600, makedev(major, minor)) < 0 ? -1 : unlink(path);
}
PROBE(make_block_device) { return node(S_IFBLK, 254, 0); }
PROBE(make_character_device) { return node(S_IFCHR, 1, 3); }
PROBE(make_pipe) { return node(S_IFIFO, 0, 0); }

// Where files can be made.
PROBE(write_tmp) { return makes("/tmp"); }
PROBE(write_dev_shm) { return makes("/dev/shm"); }
PROBE(write_root) { return makes("/"); }
PROBE(write_etc) { return makes("/etc"); }
PROBE(write_usr) { return makes("/usr/bin"); }
PROBE(write_dev) { return makes("/dev"); }
PROBE(write_var_tmp) { return makes("/var/tmp"); }
PROBE(write_run) { return makes("/run"); }
PROBE(write_passwd) { return opens("/etc/passwd"); }
PROBE(rename_between_directories) {
    char one[64], two[64], from[80], to[80];
    snprintf(one, sizeof one, "/tmp/ebb-one-%d", getpid());
    snprintf(two, sizeof two, "/tmp/ebb-two-%d", getpid());
    snprintf(from, sizeof from, "%s/x", one);
    snprintf(to, sizeof to, "%s/x", two);
    if (mkdir(one, 0700) < 0 || mkdir(two, 0700) < 0) return -1;
    int file = open(from, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0 || write(file, "x", 1) != 1 || rename(from, to) < 0 || truncate(to, 0) < 0) return -1;
    return unlink(to) < 0 || rmdir(one) < 0 || rmdir(two) < 0 ? -1 : 0;
}
PROBE(socket_in_tmp) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/ebb-socket-%d", getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0) return -1;
    return unlink(address.sun_path);
}
PROBE(leave_by_dots) {
    struct stat root, above;
    if (stat("/", &root) < 0 || stat("/../../..", &above) < 0) return -1;
    if (root.st_ino == above.st_ino && root.st_dev == above.st_dev) return 0;
    errno = EXDEV;
    return -1;
}
