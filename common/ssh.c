/* See ssh.h. Owns nothing. */
#include "common/ssh.h"

#include <assert.h>
#include <stdlib.h>

#include "common/cleanup.h"

static const char *const options[] = {
        "ssh",
        "-T",
        "-oBatchMode=yes",
        "-oConnectTimeout=5",
        "-oServerAliveInterval=10",
        "-oServerAliveCountMax=3",
        "-oControlMaster=no",
        "-oControlPath=none",
        "-oClearAllForwardings=yes",
        "-oForwardAgent=no",
        "-oForwardX11=no",
        "-oGSSAPIAuthentication=no", /* a ticket expires */
};
static_assert(ELEMENTSOF(options) + 4 <= SSH_WORDS_MAX, "ssh's words");

void ssh_words(const char *host, const char *command, const char *argv[SSH_WORDS_MAX]) {
        size_t n = 0;

        for (; n < ELEMENTSOF(options); n++)
                argv[n] = options[n];
        argv[n++] = "--";
        argv[n++] = host;
        argv[n++] = command;
        argv[n] = NULL;
}

void ssh_forget_login(void) {
        static const char *const lent[] = { "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "KRB5CCNAME", "DISPLAY" };

        for (size_t i = 0; i < ELEMENTSOF(lent); i++)
                (void) unsetenv(lent[i]);
}
