/* See network.h. */
#include "common/network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "common/hosts.h"
#include "common/parse.h"

struct prefix {
        uint32_t base, mask; /* in the host's order */
};

static bool read_prefix(const char *network, const char *slash, struct prefix *ret) {
        char text[INET_ADDRSTRLEN] = "";
        struct in_addr base;
        uint64_t bits;

        if ((size_t) (slash - network) >= sizeof(text) || parse_u64(slash + 1, 0, 32, &bits) < 0)
                return false;
        memcpy(text, network, (size_t) (slash - network));
        if (inet_pton(AF_INET, text, &base) != 1)
                return false;
        *ret = (struct prefix) { ntohl(base.s_addr), bits == 0 ? 0 : UINT32_MAX << (32 - bits) };
        return true;
}

bool network_is_valid(const char *network) {
        const char *slash = strchr(network, '/');
        struct prefix unused;

        return slash ? read_prefix(network, slash, &unused) : strlen(network) < IF_NAMESIZE && host_is_name(network);
}

bool network_has(const char *network, const struct ifaddrs *interface) {
        const struct sockaddr_in *address = (const struct sockaddr_in *) (const void *) interface->ifa_addr;
        const char *slash = strchr(network, '/');
        struct prefix p;

        if (!slash)
                return strcmp(interface->ifa_name, network) == 0;
        return read_prefix(network, slash, &p) && (ntohl(address->sin_addr.s_addr) & p.mask) == (p.base & p.mask);
}
