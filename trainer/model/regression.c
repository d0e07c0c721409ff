/*
 * A number for each text, forward and backward: the classifier's features and its one logit → mean squared error. With the last layer, the
 * pooler and one segment it is BertForSequenceClassification with problem_type regression. The loss of a few numbers a batch is done in
 * double on the host, as the classifier's small steps are.
 */
#include <math.h>

#include "trainer/model/internal.h"

/* Σ (x − y)² of the texts that have a target y; x (texts) becomes its own gradient. */
static struct xent_sums squared_errors(const double *targets, uint32_t n, double scale, double *x) {
        struct xent_sums sums = {};

        for (uint32_t i = 0; i < n; i++) {
                double error = isnan(targets[i]) ? 0 : x[i] - targets[i];
                sums.loss += error * error;
                sums.count += !isnan(targets[i]);
                x[i] = 2 * error * scale;
        }
        return sums;
}

static void forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient) {
        struct tensor predicted = classifier_forward(model, batch, pass); /* (texts, 1) */
        double *x = model->buffers.host_logits;
        struct xent_sums all;

        model->ops->load(predicted.dtype, predicted.data, 0, x, predicted.rows);
        struct xent_sums own = squared_errors(model->host_batch->targets, predicted.rows, pass->sentence_scale, x);
        model->ops->download(&all, model->sentence_sums, sizeof(all));
        all.loss += own.loss;
        all.count += own.count;
        model->ops->upload(model->sentence_sums, &all, sizeof(all));
        if (gradient)
                model->ops->store(predicted.dtype, predicted.data, 0, x, predicted.rows);
}

const struct model_head regression_head = { .n_layers = classifier_n_layers,
                                            .take_layer = classifier_take_layer,
                                            .forward = forward,
                                            .backward = classifier_backward,
                                            .give_layer = classifier_give_layer,
                                            .flops = classifier_flops };
