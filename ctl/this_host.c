/* See this_host.h. Owns nothing. */
#include "ctl/this_host.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/hosts.h"

static void own_name(char name[BERTD_HOST_MAX + 1]) {
        name[0] = '\0';
        (void) gethostname(name, BERTD_HOST_MAX);
        name[BERTD_HOST_MAX] = '\0';
}

/* "h1" of "h1.example.com" */
static bool is_short_of(const char *name, const char *full) {
        size_t n = strlen(name);

        return !strchr(name, '.') && strncasecmp(name, full, n) == 0 && full[n] == '.';
}

static bool is_own_name(const char *name) {
        const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME };
        struct addrinfo *found = NULL;
        char own[BERTD_HOST_MAX + 1];

        own_name(own);
        if (host_is(name, own) || is_short_of(name, own))
                return true;
        /* The FQDN of a host that is called by its short name. */
        if (!is_short_of(own, name) || getaddrinfo(own, NULL, &hints, &found) != 0)
                return false;
        bool same = found->ai_canonname && host_is(found->ai_canonname, name);
        freeaddrinfo(found);
        return same;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b) {
        if (!a || !b || a->sa_family != b->sa_family)
                return false;
        if (a->sa_family == AF_INET)
                return ((const struct sockaddr_in *) (const void *) a)->sin_addr.s_addr ==
                       ((const struct sockaddr_in *) (const void *) b)->sin_addr.s_addr;
        return a->sa_family == AF_INET6 &&
               memcmp(&((const struct sockaddr_in6 *) (const void *) a)->sin6_addr,
                      &((const struct sockaddr_in6 *) (const void *) b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* Debian's 127.0.1.1 would make other names ours, too. */
static bool has_address(const struct ifaddrs *interfaces, const struct addrinfo *addresses) {
        for (const struct addrinfo *a = addresses; a; a = a->ai_next)
                for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next)
                        if (!(i->ifa_flags & IFF_LOOPBACK) && same_address(i->ifa_addr, a->ai_addr))
                                return true;
        return false;
}

static bool is_own_address(const char *name) {
        const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
        struct addrinfo *addresses = NULL;
        struct ifaddrs *interfaces = NULL;
        bool is = false;

        if (getifaddrs(&interfaces) < 0)
                return false;
        if (getaddrinfo(name, NULL, &hints, &addresses) == 0) {
                is = has_address(interfaces, addresses);
                freeaddrinfo(addresses);
        }
        freeifaddrs(interfaces);
        return is;
}

bool this_host_is(const char *name) { return is_own_name(name) || is_own_address(name); }

/* Where it is submitted from, then. */
static int refuse(const struct spec *spec, struct error *error) {
        char own[BERTD_HOST_MAX + 1];

        own_name(own);
        return error_input(error, BERTCTL_EXIT_USAGE,
                           "hosts: this host (%s) is not one of them; run: ssh %s bertctl submit ...", own,
                           spec->resources.hosts[0]);
}

int this_host_first(struct spec *spec, struct error *error) {
        char **hosts = spec->resources.hosts, *own = NULL;
        uint32_t n = spec->resources.n_hosts, at = 0;

        for (uint32_t i = 0; i < n; i++) {
                if (!this_host_is(hosts[i]))
                        continue;
                if (own)
                        return error_input(error, BERTCTL_EXIT_USAGE, "hosts: %s and %s are both this host; give one",
                                           own, hosts[i]);
                own = hosts[i];
                at = i;
        }
        if (n > 0 && !own)
                return refuse(spec, error);
        if (at > 0) {
                memmove(&hosts[1], hosts, at * sizeof(*hosts));
                hosts[0] = own;
        }
        return 0;
}
