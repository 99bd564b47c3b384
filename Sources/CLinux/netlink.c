// SPDX-License-Identifier: Apache-2.0
// The few rtnetlink and ctnetlink messages that a sandbox with egress needs: a veth pair, an address, a default route,
// and their removal. One message, one acknowledgement; nothing is dumped.

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clinux.h"

// A message under construction. 512 bytes hold the largest one of this file several times over.
struct message {
    union {
        struct nlmsghdr header;
        char bytes[512];
    };
};

static void begin(struct message *m, uint16_t type, uint16_t flags, const void *body, size_t size) {
    memset(m, 0, sizeof *m);
    m->header.nlmsg_len = NLMSG_LENGTH(size);
    m->header.nlmsg_type = type;
    m->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    memcpy(NLMSG_DATA(&m->header), body, size);
}

static struct nlattr *add(struct message *m, uint16_t type, const void *value, size_t size) {
    struct nlattr *attribute = (struct nlattr *)(m->bytes + NLMSG_ALIGN(m->header.nlmsg_len));
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    if (size > 0) memcpy((char *)attribute + NLA_HDRLEN, value, size);
    m->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(m->header.nlmsg_len) + NLA_ALIGN(attribute->nla_len));
    return attribute;
}

static struct nlattr *nest(struct message *m, uint16_t type) { return add(m, type, NULL, 0); }

static void end(struct message *m, struct nlattr *nested) {
    nested->nla_len = (uint16_t)(m->bytes + m->header.nlmsg_len - (char *)nested);
}

static void add_name(struct message *m, const char *name) { add(m, IFLA_IFNAME, name, strlen(name) + 1); }

// Sends one message and waits for what the kernel says: 0, or -1 with errno.
static int ask(int socket, struct message *m) {
    if (send(socket, m->bytes, m->header.nlmsg_len, 0) < 0) return -1;
    struct message answer;
    ssize_t count = recv(socket, answer.bytes, sizeof answer.bytes, 0);
    if (count < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || answer.header.nlmsg_type != NLMSG_ERROR) {
        if (count >= 0) errno = EPROTO;
        return -1;
    }
    const struct nlmsgerr *error = NLMSG_DATA(&answer.header);
    if (error->error == 0) return 0;
    errno = -error->error;
    return -1;
}

static int open_socket(int family) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
    if (fd < 0) return -1;
    // An error is told without a copy of the message that caused it: every answer fits.
    int on = 1;
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    return fd;
}

int clinux_route_socket(void) { return open_socket(NETLINK_ROUTE); }

int clinux_conntrack_socket(void) { return open_socket(NETLINK_NETFILTER); }

int clinux_enter_network(int network_namespace) { return setns(network_namespace, CLONE_NEWNET); }

int clinux_veth(int socket, const char *name, const char *peer, int peer_namespace) {
    struct ifinfomsg up = {.ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    uint32_t namespace = (uint32_t)peer_namespace;
    struct message m;
    begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up, sizeof up);
    add_name(&m, name);
    struct nlattr *info = nest(&m, IFLA_LINKINFO);
    add(&m, IFLA_INFO_KIND, "veth", sizeof "veth");
    struct nlattr *data = nest(&m, IFLA_INFO_DATA);
    // The peer is described by a header of its own in front of its attributes. It cannot be born up: it is made first,
    // and veth_open() refuses an end that has no other end yet (drivers/net/veth.c).
    struct ifinfomsg down = {.ifi_family = AF_UNSPEC};
    struct nlattr *other = add(&m, VETH_INFO_PEER, &down, sizeof down);
    add_name(&m, peer);
    add(&m, IFLA_NET_NS_FD, &namespace, sizeof namespace);
    end(&m, other);
    end(&m, data);
    end(&m, info);
    return ask(socket, &m);
}

static int link_index(int socket, const char *name) {
    // A socket asks the namespace that it was made in, whatever thread uses it.
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    return ioctl(socket, SIOCGIFINDEX, &request) < 0 ? -1 : request.ifr_ifindex;
}

int clinux_link_up(int socket, const char *name) {
    struct ifinfomsg up = {.ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct message m;
    begin(&m, RTM_NEWLINK, 0, &up, sizeof up);
    add_name(&m, name);
    return ask(socket, &m);
}

int clinux_remove_link(int socket, const char *name) {
    struct ifinfomsg any = {.ifi_family = AF_UNSPEC};
    struct message m;
    begin(&m, RTM_DELLINK, 0, &any, sizeof any);
    add_name(&m, name);
    return ask(socket, &m);
}

int clinux_add_address(int socket, const char *name, uint32_t address, uint8_t prefix) {
    int index = link_index(socket, name);
    if (index < 0) return -1;
    struct ifaddrmsg head = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = (uint32_t)index};
    uint32_t raw = htonl(address);
    struct message m;
    begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &head, sizeof head);
    add(&m, IFA_LOCAL, &raw, sizeof raw);
    add(&m, IFA_ADDRESS, &raw, sizeof raw);
    return ask(socket, &m);
}

int clinux_default_route(int socket, uint32_t gateway) {
    struct rtmsg head = {
        .rtm_family = AF_INET,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST,
    };
    uint32_t raw = htonl(gateway);
    struct message m;
    begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &head, sizeof head);
    add(&m, RTA_GATEWAY, &raw, sizeof raw);
    return ask(socket, &m);
}

int clinux_forget_connections(int socket, uint32_t mark) {
    // Without a tuple the kernel deletes all that the filter names (ctnetlink_flush_conntrack).
    struct nfgenmsg head = {.nfgen_family = AF_INET, .version = NFNETLINK_V0};
    uint32_t raw = htonl(mark), all = ~0u;
    struct message m;
    begin(&m, (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, 0, &head, sizeof head);
    add(&m, CTA_MARK, &raw, sizeof raw);
    add(&m, CTA_MARK_MASK, &all, sizeof all);
    return ask(socket, &m);
}
