/*
 * What every rank takes from rank 0, not from its disk (contract C11); see run.h. A gang's other hosts need not have
 * the run folder, the spec, the vocabulary or what the run begins with: rank 0 reads them, and what it has read goes to
 * all. Invariant: every rank takes part in every broadcast, also one that uses its own copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/run/run.h"

/* Rank 0's bytes for all, in memory that the caller frees, with a NUL behind them. *data is read on rank 0 alone; NULL stays NULL. */
static int share_bytes(struct exchange *x, const char *data, size_t size, char **ret, size_t *ret_size,
                       struct error *error) {
        bool first = exchange_rank(x) == 0;
        struct {
                uint64_t size;
                bool is_there;
        } head = { size, data != NULL };

        exchange_broadcast(x, &head, sizeof(head));
        cleanup_free char *all = head.is_there ? malloc(head.size + 1) : NULL;
        int r = exchange_agree(x, all || !head.is_there ? 0 : error_errno(error, ENOMEM, "inputs"), error);
        if (r < 0)
                return r;
        if (all) {
                if (first)
                        memcpy(all, data, head.size);
                exchange_broadcast(x, all, head.size);
                all[head.size] = '\0';
        }
        *ret = steal_pointer(&all);
        if (ret_size)
                *ret_size = head.size;
        return 0;
}

static int share_text(struct exchange *x, const char *text, char **ret, struct error *error) {
        return share_bytes(x, text, text ? strlen(text) : 0, ret, NULL, error);
}

/* ---- arguments ---- */

static bool same_path(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

void run_given_free(struct run_given *given) {
        free(given->spec_path);
        free(given->run_dir);
        free(given->resume);
        *given = (struct run_given) {};
}

int run_share_options(struct exchange *x, struct run_options *o, struct run_given *given, struct error *error) {
        bool first = exchange_rank(x) == 0, resume_given = o->own_resume;

        int r = share_text(x, o->spec_path, &given->spec_path, error);
        if (r >= 0)
                r = share_text(x, o->run_dir, &given->run_dir, error);
        if (r >= 0)
                r = share_text(x, o->resume, &given->resume, error);
        if (r < 0)
                return r;
        o->own_spec = first || !same_path(o->spec_path, given->spec_path);
        o->own_resume = first || (resume_given && !same_path(o->resume, given->resume));
        o->compares_files = exchange_or(x, !first && (o->own_spec || o->own_resume)) != 0;
        if (!o->run_dir)
                o->run_dir = given->run_dir;
        if (!o->own_resume)
                o->resume = given->resume;
        return 0;
}

/* ---- the spec ---- */

/* Normalised: its paths are absolute as seen by rank 0. */
static int share_spec(struct run *run, struct error *error) {
        bool own = run->options->own_spec, ranks_given = false, joined = false;
        cleanup_free char *text = NULL, *its = NULL;
        size_t size = 0;

        int r = exchange_agree(run->ranks.exchange, own ? run_read_spec(run, error) : 0, error);
        if (r < 0)
                return r;
        if (run->ranks.own == 0)
                joined = run_pairs_were_joined(run);
        exchange_broadcast(run->ranks.exchange, &joined, sizeof(joined));
        if (own)
                run_pairs_settle(run, joined);
        if (run->ranks.own == 0)
                r = spec_format(run->job->whole, &text, error);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r >= 0)
                r = share_bytes(run->ranks.exchange, text, text ? strlen(text) : 0, &its, &size, error);
        if (r < 0)
                return r;
        if (run->ranks.own == 0)
                ranks_given = run->job->whole->resources.ranks_given;
        exchange_broadcast(run->ranks.exchange, &ranks_given, sizeof(ranks_given));
        if (!own)
                r = spec_parse(run->options->spec_path, its, size, NULL, 0, &run->making->whole, error);
        if (!own && r >= 0) {
                run->job->whole->resources.ranks_given = ranks_given; /* a normalised text has them always */
                run->spec = spec_at(run->job->whole, 0);
        }
        return exchange_agree(run->ranks.exchange, r, error);
}

/* ---- the model ---- */

/* All but the texts, which follow: the vocabulary's path and each asset's data. */
struct found {
        struct model_config config;
        struct text_options text;
        bool text_known, init_tail;
        uint32_t init_length, n_assets;
        uint64_t path_size, size[ASSETS_MAX];
        char name[ASSETS_MAX][ASSET_NAME_MAX];
};

static uint64_t describe(const struct run *run, struct found *f) {
        uint64_t all = strlen(run->job->vocab_path);

        memset(f, 0, sizeof(*f)); /* the padding, too: it is sent */
        f->config = run->job->config;
        f->text = run->job->text;
        f->text_known = run->job->text_known;
        f->init_tail = run->job->init_tail;
        f->init_length = run->job->init_length;
        f->n_assets = run->job->assets.n;
        f->path_size = all;
        for (uint32_t i = 0; i < run->job->assets.n; i++) {
                f->size[i] = run->job->assets.item[i].size;
                memcpy(f->name[i], run->job->assets.item[i].name, sizeof(f->name[i]));
                all += f->size[i];
        }
        return all;
}

static char *pack(const struct run *run, struct found *f, size_t *ret_size) {
        *ret_size = describe(run, f);
        char *data = malloc(*ret_size + 1), *at = data;

        if (!data)
                return NULL;
        memcpy(at, run->job->vocab_path, f->path_size);
        at += f->path_size;
        for (uint32_t i = 0; i < f->n_assets; i++) {
                memcpy(at, run->job->assets.item[i].data, f->size[i]);
                at += f->size[i];
        }
        return data;
}

static int take(struct run *run, const struct found *f, const char *data, struct error *error) {
        const char *at = data + f->path_size;
        int r = 0;

        run->making->config = f->config;
        run->making->text = f->text;
        run->making->text_known = f->text_known;
        run->making->init_tail = f->init_tail;
        run->making->init_length = f->init_length;
        run->making->vocab_path = strndup(data, f->path_size);
        if (!run->job->vocab_path)
                return error_errno(error, ENOMEM, "vocabulary");
        for (uint32_t i = 0; r >= 0 && i < f->n_assets; i++) {
                r = assets_add(&run->making->assets, f->name[i], at, f->size[i], error);
                at += f->size[i];
        }
        return r < 0 ? r : assets_vocab(&run->making->assets, run->job->vocab_path, &run->making->vocab, error);
}

static int share_model(struct run *run, struct error *error) {
        bool own = run->options->own_spec;
        cleanup_free char *data = NULL, *its = NULL;
        cleanup_free struct found *found = calloc(1, sizeof(*found));
        size_t size = 0;

        int r = found ? 0 : error_errno(error, ENOMEM, "inputs");
        if (r >= 0 && own)
                r = run_read_model(run, error);
        if (r >= 0 && run->ranks.own == 0 && !(data = pack(run, found, &size)))
                r = error_errno(error, ENOMEM, "inputs");
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        exchange_broadcast(run->ranks.exchange, found, sizeof(*found));
        r = share_bytes(run->ranks.exchange, data, size, &its, NULL, error);
        if (r < 0)
                return r;
        return exchange_agree(run->ranks.exchange, own ? 0 : take(run, found, its, error), error);
}

int run_share_inputs(struct run *run, struct error *error) {
        int r = share_spec(run, error);

        if (r >= 0)
                r = share_model(run, error);
        return r < 0 ? r : exchange_agree(run->ranks.exchange, run_settle_inputs(run, error), error);
}
