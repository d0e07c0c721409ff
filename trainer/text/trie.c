/* See trie.h. */
#include "trainer/text/trie.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int trie_allocate(struct trie *trie, size_t bytes) {
        size_t n_edges = 1024;

        while (n_edges < 2 * bytes)
                n_edges *= 2;
        trie->edges = malloc(n_edges * sizeof(*trie->edges));
        trie->token = malloc((bytes + 1) * sizeof(*trie->token));
        if (!trie->edges || !trie->token)
                return -ENOMEM;
        memset(trie->edges, 0xFF, n_edges * sizeof(*trie->edges));
        trie->mask = (uint32_t) n_edges - 1;
        trie->token[0] = TRIE_NO_TOKEN;
        trie->n_nodes = 1;
        return 0;
}

void trie_free(struct trie *trie) {
        free(trie->edges);
        free(trie->token);
        *trie = (struct trie) {};
}

uint32_t trie_insert(struct trie *trie, const char *token, size_t size) {
        uint32_t node = 0;

        for (const char *p = token; p < token + size; p++) {
                uint32_t from = node << 8 | (unsigned char) *p;
                struct trie_edge *edge = &trie->edges[trie_slot(trie, from)];
                if (edge->from == TRIE_EDGE_FREE) {
                        *edge = (struct trie_edge) { .from = from, .to = trie->n_nodes };
                        trie->token[trie->n_nodes++] = TRIE_NO_TOKEN;
                }
                node = edge->to;
        }
        return node;
}
