/* Sums of a pass over all ranks, and what they mean; see run.h. Owns nothing. */
#include <math.h>

#include "trainer/run/run.h"

struct run_sums run_agree_sums(struct run *run, const struct run_sums *mine, struct pace_share *ret_shares) {
        const struct run_sums *all = exchange_gather(run->ranks.exchange, mine, sizeof(*mine));
        struct run_sums total = {};

        for (uint32_t r = 0; r < run->ranks.n; r++) {
                total.loss.mlm_sum += all[r].loss.mlm_sum;
                total.loss.sentence_sum += all[r].loss.sentence_sum;
                total.loss.mlm_count += all[r].loss.mlm_count;
                total.loss.mlm_correct += all[r].loss.mlm_correct;
                total.loss.sentence_count += all[r].loss.sentence_count;
                total.loss.sentence_correct += all[r].loss.sentence_correct;
                total.flops += all[r].flops;
                total.tokens += all[r].tokens;
                if (ret_shares)
                        ret_shares[r] = (struct pace_share) { all[r].compute_sec, all[r].flops };
        }
        return total;
}

bool run_losses(const struct run *run, const struct model_loss *loss, struct metrics_losses *ret) {
        bool mlm = loss->mlm_count > 0,
             sentence = run->spec->data.objective != OBJECTIVE_MLM && loss->sentence_count > 0;

        ret->mlm_loss = mlm ? loss->mlm_sum / (double) loss->mlm_count : NAN;
        ret->mlm_accuracy = mlm ? (double) loss->mlm_correct / (double) loss->mlm_count : NAN;
        ret->sentence_loss = sentence ? loss->sentence_sum / (double) loss->sentence_count : NAN;
        ret->sentence_accuracy =
                sentence && !run_regresses(run) ? (double) loss->sentence_correct / (double) loss->sentence_count : NAN;
        ret->loss = mlm || sentence ? (mlm ? ret->mlm_loss : 0) + (sentence ? ret->sentence_loss : 0) : NAN;
        return mlm || sentence;
}
