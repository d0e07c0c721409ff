#!/usr/bin/env python3
"""PyTorch on the GPU beside gpu-check's rows: transformers' BertForPreTraining, SDPA, torch.compile, bf16 autocast, fused AdamW, the best of
three micro-batches. Prints Markdown rows."""
import statistics
import time

import torch
from transformers import BertConfig, BertForPreTraining

LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)


def rate(config, length, masked, samples):
    torch.manual_seed(1)
    model = BertForPreTraining(BertConfig(vocab_size=30528, max_position_embeddings=512, attn_implementation="sdpa", **config)).cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    step = torch.compile(model)
    ids = torch.randint(1, 30522, (samples, length), device="cuda")
    labels = torch.full_like(ids, -100)
    labels[:, :masked] = 5
    sentence = torch.zeros(samples, dtype=torch.long, device="cuda")

    def once():
        torch.cuda.synchronize()
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = step(input_ids=ids, labels=labels, next_sentence_label=sentence).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch.cuda.synchronize()
        return time.perf_counter() - begin
    for _ in range(3):
        once()
    return samples / statistics.median(once() for _ in range(6))


for name, config, length, masked, batches in (("large-128", LARGE, 128, 20, (64, 128)), ("large-512", LARGE, 512, 80, (16, 24)),
                                              ("base-128", {}, 128, 20, (256,)), ("base-512", {}, 512, 80, (48,))):
    best = (0.0, 0)
    for samples in batches:
        try:
            best = max(best, (rate(config, length, masked, samples), samples))
        except torch.cuda.OutOfMemoryError:
            pass
        torch.cuda.empty_cache()
    print(f"| {name} | {best[1]} | {best[0]:.1f} |", flush=True)
