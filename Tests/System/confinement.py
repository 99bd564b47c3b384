# SPDX-License-Identifier: Apache-2.0
"""What a sandbox answers to each attempt of `probe/`: one row an attempt, and what it is against.

A row is `probe | answer | what is so | against`. The answer is an errno, `ok`, or `signal N`; two of them, as in
`ENOENT/ENODATA`, are for `proc: minimal` and for `proc: masked`. `against` names CVEs by number, or a word of CLASSES.
After the answer may stand:

:landlock       it is landlock's; without that the answer is `ok`, or the word that follows
:lacks          a kernel may be built without it; then it is not there for anybody
:new            a call that older kernels do not have
:x86            there is no such thing on arm64
"""
import collections
import errno
import pathlib
import shutil
import subprocess

from conftest import BIN

HERE = pathlib.Path(__file__).parent / "probe"

# What has led out of sandboxes, as in docs/isolation.md; every one has a row below.
ATTACKS = {
    "the daemon's or the runtime's program overwritten": ["2019-5736"],
    "a descriptor or working directory that leads out": ["2024-21626", "2021-4197"],
    "mounts raced or sent elsewhere by links": [
        "2025-31133", "2025-52565", "2025-52881", "2026-41579", "2026-47766", "2021-30465", "2023-27561", "2024-45310"],
    "settings of the kernel that name a program": ["2022-0492", "core_pattern", "uevent_helper", "modprobe", "binfmt"],
    "a user namespace and what it opens": [
        "2022-0185", "2021-22555", "2022-2588", "2023-32233", "2024-1086", "2023-0386", "2021-3493", "2023-2640"],
    "writes into the page cache": [
        "2022-0847", "2016-5195", "2026-31431", "2026-43284", "2026-46300", "2026-46331", "2026-43494"],
    "socket families": ["2025-21756", "2021-26708", "2025-38236", "2026-53362", "2021-3609"],
    "the kernel's own machines": ["2022-23222", "2021-3444", "2021-4204", "2023-3269"],
    "privileges that come back": ["2022-29162", "2021-4034"],
    "terminals": ["2019-10063", "2017-5226"],
}
# What is refused, or has to work, without being any of them.
CLASSES = {
    "memory of others", "the machine", "names of files", "keys", "escape by name", "another architecture", "new calls",
    "resources", "what the kernel tells", "must work",
}

TABLE = """
ptrace | EPERM | nobody is debugged | memory of others
process_vm_readv | EPERM | no memory is read across processes | memory of others
process_vm_writev | EPERM | no memory is written across processes | memory of others, 2016-5195
process_madvise | EPERM | nobody's pages are pushed out | memory of others
pidfd_getfd | EPERM | no descriptor is taken from a process | memory of others, 2024-21626
pidfd_open | ok | a process may be waited for by descriptor | must work
kcmp | EPERM | addresses of kernel objects are not compared | memory of others
proc_self_mem | EACCES:landlock | /proc/self/mem cannot be opened for writing | 2016-5195
proc_self_comm | EACCES:landlock | nothing below /proc is written, one's own files there included | escape by name
proc_self_oom_score | EACCES:landlock | a function does not choose who is killed first | resources
proc_self_uid_map | EACCES:landlock | the map of users is not even opened for writing | 2022-0185

bpf | EPERM | there are no BPF programs or maps | 2022-23222, 2021-3444, 2021-4204
perf_event_open | EPERM | nothing is measured by the kernel's counters | memory of others
userfaultfd | EPERM | page faults are not held up | 2016-5195, 2023-3269
io_uring_setup | EPERM | there is no io_uring | 2026-43494
io_uring_enter | EPERM | an io_uring that came from elsewhere does not run | 2026-43494
io_uring_register | EPERM | nothing is registered with an io_uring | 2026-43494
io_setup | ENOSYS | there is no asynchronous I/O of the kernel's older kind | new calls
add_key | EPERM | no key is stored | keys
request_key | EPERM | no key is looked for, which may start a program of the host's | keys
keyctl | EPERM | keyrings are not reached | keys
fanotify_init | EPERM | file systems are not watched as a whole | names of files
fanotify_mark | EPERM | nothing is marked to be watched | names of files
name_to_handle_at | EPERM | files have no names beside their paths | names of files
open_by_handle_at | EPERM | files are not opened by number, past every mount | names of files
memfd_secret | EPERM | no memory is hidden from the host | resources
memfd_create | ok | anonymous files work | must work
syslog | EPERM | the kernel's messages are not read | what the kernel tells
lookup_dcookie | EPERM | cookies are no paths | names of files

splice | EPERM | no page goes from file to pipe | 2022-0847, 2026-31431, 2026-43284, 2026-46300, 2026-46331
tee | EPERM | no page is shared between pipes | 2022-0847
vmsplice | EPERM | no memory is lent to a pipe | 2022-0847, 2026-46331

unshare_user | EPERM | unshare makes no user namespace | 2022-0185, 2021-22555, 2022-2588, 2023-32233, 2024-1086
unshare_mount | EPERM | unshare makes no mount namespace | 2023-0386, 2021-3493, 2023-2640
unshare_network | EPERM | unshare makes no network namespace | 2021-22555, 2023-32233, 2024-1086
unshare_pid | EPERM | unshare makes no pid namespace | 2022-0185
unshare_ipc | EPERM | unshare makes no IPC namespace | 2022-0185
unshare_uts | EPERM | unshare makes no UTS namespace | 2022-0185
unshare_cgroup | EPERM | unshare makes no cgroup namespace | 2022-0492
unshare_time | EPERM | unshare makes no time namespace | 2022-0185
clone_plain | ok | processes are made | must work
clone_user | EPERM | clone makes no user namespace | 2022-0185, 2022-2588
clone_user_and_files | EPERM | nor does it among other flags | 2022-0185
clone_mount | EPERM | clone makes no mount namespace | 2023-0386, 2021-3493
clone_network | EPERM | clone makes no network namespace | 2021-22555
clone_pid | EPERM | clone makes no pid namespace | 2022-0185
clone_ipc | EPERM | clone makes no IPC namespace | 2022-0185
clone_uts | EPERM | clone makes no UTS namespace | 2022-0185
clone_cgroup | EPERM | clone makes no cgroup namespace | 2022-0492
clone3_user | ENOSYS | clone3, whose flags no filter sees, does not exist | 2022-0185, 2024-1086
setns | EPERM | no namespace is entered, its own again included | 2022-0185
mount | EPERM | nothing is mounted | 2022-0185, 2022-0492, 2025-52881
mount_bind | EPERM | nothing is bound elsewhere | 2025-31133, 2025-52565
mount_remount | EPERM | nothing becomes writable | 2025-52881
umount2 | EPERM | nothing is taken away to see what is below | 2025-52881
pivot_root | EPERM | the root stays | 2021-30465
chroot | EPERM | and is not moved | 2024-21626
fsopen | EPERM | no file system is opened for configuration | 2022-0185
fsconfig | EPERM | none is configured | 2022-0185
fsmount | EPERM | none becomes a mount | 2022-0185
fspick | EPERM | none that is there is configured | 2022-0185
open_tree | EPERM | no mount is copied | 2023-0386, 2024-45310
move_mount | EPERM | no mount is moved | 2023-27561, 2026-41579
mount_setattr | EPERM | no mount changes | 2026-47766
listmount | ENOSYS:new | calls that are newer than the list do not exist: listmount | new calls
mseal | ENOSYS:new | calls that are newer than the list do not exist: mseal | new calls

reboot | EPERM | the machine goes on | the machine
kexec_load | EPERM | no other kernel is loaded | the machine
kexec_file_load | EPERM | nor from a file | the machine
init_module | EPERM | no module is loaded | the machine, modprobe
finit_module | EPERM | nor from a file | the machine, modprobe
delete_module | EPERM | none is removed | the machine
swapon | EPERM | swap is not added | the machine
swapoff | EPERM | nor taken away | the machine
acct | EPERM | processes are not written down | the machine
quotactl | EPERM | quotas are not touched | the machine
settimeofday | EPERM | the clock stays | the machine
clock_settime | EPERM | every clock does | the machine
adjtimex | EPERM | and is not pushed | the machine
clock_adjtime | EPERM | by no call | the machine
sethostname | EPERM | the host name stays | the machine
setdomainname | EPERM | and the domain's | the machine
vhangup | EPERM | terminals are not hung up | 2017-5226
mbind | EPERM | memory is not bound to nodes | memory of others
set_mempolicy | EPERM | nor by a policy | memory of others
move_pages | EPERM | pages are not moved | memory of others
migrate_pages | EPERM | nor a process's all | memory of others
personality_asked | ok | what the execution domain is may be asked | must work
personality_without_randomisation | EPERM | address randomisation stays on | another architecture
personality_high_bits | EPERM | whatever is in the upper half of the argument | another architecture
modify_ldt | EPERM:x86 | there are no descriptor tables of one's own | another architecture
iopl | EPERM:x86 | no ports of hardware | the machine
ioperm | EPERM:x86 | not even one | the machine
x32_getpid | ENOSYS:x86 | a call by x32's number does not exist, and does not end the program | another architecture
int80_getpid | signal 31:x86 | a 32-bit call ends the program | another architecture

other_families_reach_the_kernel | EAFNOSUPPORT | of 46 socket families the kernel sees three | 2021-3609, 2025-21756
family_alg | EAFNOSUPPORT | there is no AF_ALG | 2026-31431
family_alg_high_bits | EAFNOSUPPORT | whatever is in the upper half of the argument | 2026-31431
family_vsock | EAFNOSUPPORT | there is no AF_VSOCK | 2025-21756, 2021-26708
family_packet | EAFNOSUPPORT | there is no AF_PACKET | 2021-22555
family_inet6 | EAFNOSUPPORT | there is no IPv6 | 2026-53362
family_rds | EAFNOSUPPORT | there is no AF_RDS | 2026-43494
family_can | EAFNOSUPPORT | there is no AF_CAN | 2021-3609
family_tipc | EAFNOSUPPORT | there is no AF_TIPC | 2021-3609
family_xdp | EAFNOSUPPORT | there is no AF_XDP | 2022-23222
family_key | EAFNOSUPPORT | there is no AF_KEY | 2026-43284
family_unix | ok | there are UNIX sockets | must work
family_tcp | ok | there is TCP | must work
family_udp | ok | there is UDP | must work
protocol_icmp | EPROTONOSUPPORT | there is no raw ICMP | 2021-22555
protocol_raw_tcp | EPERM | a raw socket takes a capability that nobody has | 2021-22555
protocol_sctp | EPROTONOSUPPORT | there is no SCTP | 2021-22555
protocol_mptcp | EPROTONOSUPPORT | there is no multipath TCP | 2026-46300
protocol_udplite | EPROTONOSUPPORT | there is no UDP-Lite | 2026-43284
protocol_high_bits | EPROTONOSUPPORT | whatever is in the upper half of the argument | 2026-43284
netlink_route | ok | addresses may be listed | must work
netlink_netfilter | EPROTONOSUPPORT | netfilter is not reached | 2021-22555, 2023-32233, 2024-1086
netlink_xfrm | EPROTONOSUPPORT | IPsec is not reached | 2026-43284, 2026-46300
netlink_generic | EPROTONOSUPPORT | generic netlink is not reached | 2022-2588
netlink_crypto | EPROTONOSUPPORT | the crypto layer is not configured | 2026-31431
socketpair_unix | ok | there are pairs of UNIX sockets | must work
socketpair_tipc | EAFNOSUPPORT | and of no others | 2021-3609
plain_send | ok | data is sent | must work
oob_send_on_unix | EOPNOTSUPP | out-of-band data is not sent on UNIX sockets | 2025-38236
oob_sendto | EOPNOTSUPP | nor by sendto | 2025-38236
oob_sendto_high_bits | EOPNOTSUPP | nor with other flags and a filled upper half | 2025-38236
oob_sendmsg | EOPNOTSUPP | nor by sendmsg | 2025-38236
oob_sendmmsg | EOPNOTSUPP | nor by sendmmsg | 2025-38236
oob_recvfrom | EOPNOTSUPP | nor received by recvfrom | 2025-38236
oob_recvmsg | EOPNOTSUPP | nor by recvmsg | 2025-38236
oob_recvmmsg | EOPNOTSUPP | nor by recvmmsg | 2025-38236
option_tcp_ulp | EPERM | TCP has no upper layers | 2026-46300, 2026-46331
option_tcp_ulp_high_bits | EPERM | whatever is in the upper half of the arguments | 2026-46300, 2019-10063
option_udp_encap | EPERM | UDP carries no ESP | 2026-43284
option_udp_encap_high_bits | EPERM | whatever is in the upper half of the arguments | 2026-43284, 2019-10063
option_alg | ENOPROTOOPT | options of AF_ALG are not reached | 2026-31431
option_netlink | ENOPROTOOPT | nor those of netlink | 2023-32233
option_keepalive | ok | options of sockets work | must work
option_nodelay | ok | and of TCP | must work
ioctl_tiocsti | EPERM | nothing is typed into a terminal | 2017-5226, 2019-10063
ioctl_tiocsti_high_bits | EPERM | whatever is in the upper half of the request | 2019-10063
ioctl_tioclinux | EPERM | nor into the console | 2017-5226
ioctl_tiocsetd | EPERM | line disciplines are not loaded | 2017-5226

become_root | EINVAL | there is no root to become | 2021-4034
become_another | EINVAL | nor any other user | 2021-4034
set_groups | EPERM | no group is added | 2021-4034
give_away | EINVAL | no file is given to another user | 2021-4034
take_capabilities | EPERM | no capability is taken | 2022-29162
ambient_capability | EPERM | nor inherited through a program | 2022-29162
unlock_securebits | EPERM | the locks on that stay | 2022-29162
drop_bounding | EPERM | nor is there any to give up | 2022-29162
raise_core_limit | EPERM | no core is dumped | core_pattern
lock_memory | ENOMEM | no megabyte is locked | resources
raise_priority | EACCES | nobody is more urgent | resources
real_time | EPERM | nor real-time | resources
real_time_io | EPERM | nor on the disk | resources
message_queue | EMFILE | no message queue outside of the memory limit | resources
shared_memory | ok | there is shared memory, of its own | must work

proc_core_pattern | ENOENT/EACCES | where cores go is not written | core_pattern, 2022-0492
proc_modprobe | ENOENT/EACCES:lacks | nor which program loads modules | modprobe
proc_binfmt | ENOENT/ENODATA:lacks | nor which program runs a format | binfmt
proc_randomize | ENOENT/EACCES | nor any setting | 2022-0492
proc_sysrq | ENOENT/EACCES:lacks | nor the keys of an operator | the machine
proc_irq | ENOENT/EACCES | nor where interrupts go | the machine
proc_ostype | ENOENT/ok | settings can be read where the runtime asks for it | must work
proc_meminfo | ENOENT/ok | and how large the machine is | must work
proc_cpuinfo | ENOENT/ok | and its processors | must work
proc_kcore | ENOENT/ENODATA:lacks | the kernel's memory is not there | what the kernel tells
proc_keys | ENOENT/ENODATA | nor its keys | keys
proc_key_users | ENOENT/ENODATA | nor whose they are | keys
proc_kallsyms | ENOENT/ENODATA | nor its symbols | what the kernel tells
proc_kmsg | ENOENT/ENODATA | nor its messages | what the kernel tells
proc_interrupts | ENOENT/ENODATA | nor its interrupts, which tell of keystrokes | what the kernel tells
proc_timer_list | ENOENT/ENODATA | nor its timers | what the kernel tells
proc_slabinfo | ENOENT/ENODATA | nor its caches | what the kernel tells
proc_vmallocinfo | ENOENT/ENODATA | nor its addresses | what the kernel tells
proc_kpagecount | ENOENT/ENODATA | nor its pages | what the kernel tells
proc_iomem | ENOENT/ENODATA | nor where its memory is | what the kernel tells
proc_cmdline | ENOENT/ENODATA | nor how it was started | what the kernel tells
proc_acpi | ENOENT/ENODATA:lacks | nor ACPI | the machine
proc_driver | ENOENT/ENODATA:lacks | nor drivers | the machine
proc_pressure | ENOENT/ENODATA | nor how busy its neighbours are | what the kernel tells
proc_1_exe | ENOENT | process 1 is not seen: not its program | 2019-5736
proc_1_root | ENOENT | not its root | 2024-21626
proc_1_cwd | ENOENT | not its directory | 2024-21626
proc_1_fd | ENOENT | not its descriptors | 2024-21626, 2021-4197
proc_1_environ | ENOENT | not its environment | 2019-5736
proc_1_maps | ENOENT | not its memory | 2019-5736
proc_self_exe | EACCES | one's own program is not written | 2019-5736
proc_self_exe_of_parent | ENOENT | nor the one that started it | 2019-5736
proc_self_status | ok | of oneself all can be read | must work

sys | ENODATA | there is no sysfs | uevent_helper
sys_cgroup | ENOENT | no control groups | 2022-0492, 2021-4197
sys_uevent_helper | ENOENT | no helpers | uevent_helper
sys_firmware | ENOENT | no firmware | the machine
dev_null | ok | /dev/null takes what is written | must work
dev_urandom | ok | random bytes come | must work
dev_stdout | ok | its output can be opened again by name | must work
dev_kmsg | ENOENT | there is no /dev/kmsg | what the kernel tells
dev_ptmx | ENOENT | no terminal can be made | 2017-5226
dev_pts | ENOENT | and none is there | 2025-52565, 2017-5226
dev_chmod | EROFS | the devices stay as they are | 2025-31133
make_block_device | EACCES:landlock EPERM | no disk is made a file | escape by name
make_character_device | EACCES:landlock EPERM | nor memory | escape by name
make_pipe | ok | pipes in /tmp work | must work
write_tmp | ok | /tmp is written | must work
write_dev_shm | ok | and /dev/shm, which is the same | must work
write_root | EROFS | nothing else is: not / | 2023-0386, escape by name
write_etc | EROFS | not /etc | escape by name
write_usr | EROFS | not /usr | escape by name
write_dev | EROFS | not /dev | 2025-31133
write_var_tmp | EROFS | not /var/tmp | escape by name
write_run | EROFS | not /run | escape by name
write_passwd | EACCES | no file that is there | 2022-0847, 2021-3493
rename_between_directories | ok | files move between directories of /tmp | must work
socket_in_tmp | ok | sockets in /tmp work | must work
leave_by_dots | ok | the root is the root | 2024-21626
"""

Row = collections.namedtuple("Row", "probe minimal masked without_landlock flag sentence against")


def parse(line):
    probe, answer, sentence, against = (part.strip() for part in line.split(" | "))
    answer, _, flag = answer.partition(":")
    flag, _, without = flag.partition(" ")
    minimal, _, masked = answer.partition("/")
    return Row(probe, minimal, masked or minimal, without or "ok", flag, sentence, against.split(", "))


ROWS = [parse(line) for line in TABLE.splitlines() if line]

# What the probe knows of itself.
FACTS = {
    "Uid": "1000 1000 1000 1000", "Gid": "1000 1000 1000 1000", "Groups": "",
    "CapInh": "0" * 16, "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16,
    "NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": "1", "SigBlk": "0" * 16,
    "securebits": "0xef",  # NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, all with their locks; KEEP_CAPS locked off
    "capabilities in the bounding set": "0",
    "working directory": "/var/task",
    "descriptors": "0 1 2",
    "devices": "fd full=1:7:20666 null=1:3:20666 random=1:8:20666 shm stderr stdin stdout urandom=1:9:20666 "
               "zero=1:5:20666",
}


def outcome(text):
    """`ok`, an errno's name, or `signal N`."""
    return text if text.startswith("signal") else "ok" if text == "0" else {95: "EOPNOTSUPP"}.get(
        int(text), errno.errorcode.get(int(text)))


def build(directory):
    """The probe, compiled here; where there is no compiler, the one that scripts/test-system has put beside fnd."""
    program = directory / "probe"
    if shutil.which("cc"):
        subprocess.run([HERE / "build", program], check=True)
    else:
        shutil.copy(BIN / "probe", program)
    return program


def run_outside(program):
    """The same probe as root without a sandbox; in namespaces of its own, so that the host stays as it is."""
    command = ["setsid", "--wait", "unshare", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--fork",
               "--mount-proc", program, "--report"]
    return subprocess.run(command, check=True, capture_output=True, cwd="/", stdin=subprocess.DEVNULL).stdout
