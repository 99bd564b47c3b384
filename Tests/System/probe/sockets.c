// SPDX-License-Identifier: Apache-2.0
// Sockets, their options, and terminals.
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "probe.h"

// With a type that no family has, which the kernel refuses with EINVAL before it looks for the family's module: another
// answer is the filter's, whether this kernel has the family or not.
enum { NO_TYPE = 15 };
static char family_names[46][24];
static int family;
static long any_family(void) { return socket(family, NO_TYPE, 0); }
// One probe takes all: the first family that the kernel itself answered for, beyond those that are allowed.
PROBE(other_families_reach_the_kernel) {
    for (family = 0; family < 46; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_NETLINK) continue;
        if (any_family() == -1 && errno != EAFNOSUPPORT) {
            snprintf(family_names[family], sizeof family_names[family], "family %d", family);
            return 0;
        }
    }
    errno = EAFNOSUPPORT;
    return -1;
}
PROBE(family_alg) { return socket(AF_ALG, NO_TYPE, 0); }
PROBE(family_alg_high_bits) { return syscall(SYS_socket, HIGH | AF_ALG, NO_TYPE, 0); }
PROBE(family_vsock) { return socket(AF_VSOCK, NO_TYPE, 0); }
PROBE(family_packet) { return socket(AF_PACKET, SOCK_RAW, 0); }
PROBE(family_inet6) { return socket(AF_INET6, SOCK_STREAM, 0); }
PROBE(family_rds) { return socket(21, NO_TYPE, 0); }
PROBE(family_can) { return socket(AF_CAN, NO_TYPE, 0); }
PROBE(family_tipc) { return socket(AF_TIPC, NO_TYPE, 0); }
PROBE(family_xdp) { return socket(44, NO_TYPE, 0); }
PROBE(family_key) { return socket(AF_KEY, NO_TYPE, 0); }
PROBE(family_unix) { return socket(AF_UNIX, SOCK_STREAM, 0); }
PROBE(family_tcp) { return socket(AF_INET, SOCK_STREAM, IPPROTO_TCP); }
PROBE(family_udp) { return socket(AF_INET, SOCK_DGRAM, 0); }
PROBE(protocol_icmp) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
PROBE(protocol_raw_tcp) { return socket(AF_INET, SOCK_RAW, IPPROTO_TCP); }
PROBE(protocol_sctp) { return socket(AF_INET, NO_TYPE, IPPROTO_SCTP); }
PROBE(protocol_mptcp) { return socket(AF_INET, NO_TYPE, 262); }
PROBE(protocol_udplite) { return socket(AF_INET, NO_TYPE, 136); }
PROBE(protocol_high_bits) { return syscall(SYS_socket, AF_INET, NO_TYPE, HIGH | IPPROTO_SCTP); }
PROBE(netlink_route) { return socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }
PROBE(netlink_netfilter) { return socket(AF_NETLINK, NO_TYPE, NETLINK_NETFILTER); }
PROBE(netlink_xfrm) { return socket(AF_NETLINK, NO_TYPE, NETLINK_XFRM); }
PROBE(netlink_generic) { return socket(AF_NETLINK, NO_TYPE, NETLINK_GENERIC); }
PROBE(netlink_crypto) { return socket(AF_NETLINK, NO_TYPE, NETLINK_CRYPTO); }
PROBE(socketpair_unix) {
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}
PROBE(socketpair_tipc) {
    int pair[2];
    return socketpair(AF_TIPC, NO_TYPE, 0, pair);
}

// Out-of-band data; without a socket, as the filter answers before the kernel looks at the descriptor.
PROBE(oob_send_on_unix) {
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ? -1 : send(pair[0], "x", 1, MSG_OOB);
}
PROBE(oob_sendto) { return syscall(SYS_sendto, -1, "x", 1, MSG_OOB, 0, 0); }
PROBE(oob_sendto_high_bits) { return syscall(SYS_sendto, -1, "x", 1, HIGH | MSG_OOB | MSG_DONTWAIT, 0, 0); }
PROBE(oob_sendmsg) { return syscall(SYS_sendmsg, -1, 0, MSG_OOB); }
PROBE(oob_sendmmsg) { return syscall(SYS_sendmmsg, -1, 0, 1, MSG_OOB); }
PROBE(oob_recvfrom) { return syscall(SYS_recvfrom, -1, 0, 0, MSG_OOB, 0, 0); }
PROBE(oob_recvmsg) { return syscall(SYS_recvmsg, -1, 0, MSG_OOB); }
PROBE(oob_recvmmsg) { return syscall(SYS_recvmmsg, -1, 0, 1, MSG_OOB, 0); }
PROBE(plain_send) {
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ? -1 : send(pair[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

enum { SOL_TCP_LEVEL = 6, TCP_ULP_OPTION = 31, SOL_UDP_LEVEL = 17, UDP_ENCAP_OPTION = 100, SOL_ALG_LEVEL = 279 };
static long option(int type, unsigned long level, unsigned long name, const void *value, unsigned size) {
    return syscall(SYS_setsockopt, socket(AF_INET, type, 0), level, name, value, size);
}
static const int two = 2, one = 1;
PROBE(option_tcp_ulp) { return option(SOCK_STREAM, SOL_TCP_LEVEL, TCP_ULP_OPTION, "tls", 3); }
PROBE(option_tcp_ulp_high_bits) {
    return option(SOCK_STREAM, HIGH | SOL_TCP_LEVEL, HIGH | TCP_ULP_OPTION, "tls", 3);
}
PROBE(option_udp_encap) { return option(SOCK_DGRAM, SOL_UDP_LEVEL, UDP_ENCAP_OPTION, &two, 4); }
PROBE(option_udp_encap_high_bits) { return option(SOCK_DGRAM, HIGH | SOL_UDP_LEVEL, UDP_ENCAP_OPTION, &two, 4); }
PROBE(option_alg) { return syscall(SYS_setsockopt, -1, SOL_ALG_LEVEL, 1, "key", 3); }
PROBE(option_netlink) { return syscall(SYS_setsockopt, -1, 270, 1, &one, 4); }
PROBE(option_keepalive) { return option(SOCK_STREAM, SOL_SOCKET, SO_KEEPALIVE, &one, 4); }
PROBE(option_nodelay) { return option(SOCK_STREAM, SOL_TCP_LEVEL, 1, &one, 4); }

// Typing into a terminal: on what is none, so that nobody's is touched. The kernel would say so.
static int not_a_terminal(void) { return open("/dev/null", O_RDWR); }
PROBE(ioctl_tiocsti) { return ioctl(not_a_terminal(), TIOCSTI, "x"); }
PROBE(ioctl_tiocsti_high_bits) { return syscall(SYS_ioctl, not_a_terminal(), HIGH | TIOCSTI, "x"); }
PROBE(ioctl_tioclinux) { return ioctl(not_a_terminal(), TIOCLINUX, "x"); }
PROBE(ioctl_tiocsetd) { return ioctl(not_a_terminal(), TIOCSETD, &one); }
