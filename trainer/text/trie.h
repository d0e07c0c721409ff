/*
 * Tokens by their bytes, for the longest match in one walk: a trie whose edges are in one open-addressed table. Node 0 is the root.
 *
 *   trie_allocate → { trie_insert → token[node] = id } → trie_step … → trie_free
 */
#ifndef TRAINER_TEXT_TRIE_H
#define TRAINER_TEXT_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRIE_NO_TOKEN (-1)
#define TRIE_EDGE_FREE UINT32_MAX

struct trie {
        struct trie_edge {
                uint32_t from; /* node << 8 | byte, or TRIE_EDGE_FREE */
                uint32_t to;
        } * edges;
        uint32_t mask, n_nodes;
        int32_t *token; /* (n_nodes) id of the token that ends at a node, or TRIE_NO_TOKEN */
};

/* Room for tokens of so many bytes together. 0 or -ENOMEM; trie_free in any case. */
int trie_allocate(struct trie *trie, size_t bytes);
void trie_free(struct trie *trie);

/* The node where the token ends. */
uint32_t trie_insert(struct trie *trie, const char *token, size_t size);

static inline uint32_t trie_slot(const struct trie *trie, uint32_t from) {
        uint32_t slot = (from * 0x9E3779B1U >> 7) & trie->mask;

        while (trie->edges[slot].from != TRIE_EDGE_FREE && trie->edges[slot].from != from)
                slot = (slot + 1) & trie->mask;
        return slot;
}

/* Along the edge of `byte`; false: there is none, and *node is not a node. */
static inline bool trie_step(const struct trie *trie, uint32_t *node, char byte) {
        const struct trie_edge *edge = &trie->edges[trie_slot(trie, *node << 8 | (unsigned char) byte)];

        *node = edge->to;
        return edge->from != TRIE_EDGE_FREE;
}

#endif
