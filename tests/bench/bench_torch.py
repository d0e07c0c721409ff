#!/usr/bin/env python3
"""PyTorch beside bench_model: a training step (forward, backward, AdamW) of transformers' BertForPreTraining in fp32, dropout 0.1.

  bench_torch.py NAME LAYERS HIDDEN HEADS FFN VOCAB SAMPLES LENGTH MASKED THREADS eager|compile REPEATS [LENGTHS]

Prints JSON as bench_model does: seconds of the median step, and of CPU time, the process's peak memory in MB. LENGTHS (comma separated, one a sample): shorter texts, padded
to LENGTH as PyTorch needs them; without it all samples are full.
"""
import json, resource, statistics, sys, time
import torch
from transformers import BertConfig, BertForPreTraining
from transformers.utils import logging

logging.set_verbosity_error()
layers, hidden, heads, ffn, vocab, samples, length, masked, threads = map(int, sys.argv[2:11])
how, repeats = sys.argv[11], int(sys.argv[12])
torch.set_num_threads(threads)
torch.manual_seed(1)
model = BertForPreTraining(BertConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                                      intermediate_size=ffn, max_position_embeddings=512, attn_implementation="sdpa")).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
step = torch.compile(model) if how == "compile" else model
lengths = torch.tensor(list(map(int, sys.argv[13].split(","))) if len(sys.argv) > 13 else [length] * samples)
ids = torch.randint(1, vocab, (samples, length))
mask = (torch.arange(length)[None, :] < lengths[:, None]).long()
labels = torch.full_like(ids, -100)
for b in range(samples):
    n = max(1, int(masked * lengths[b]) // length)
    labels[b, torch.randperm(int(lengths[b]))[:n]] = 5
full = bool((lengths == length).all())
inputs = dict(input_ids=ids, labels=labels, next_sentence_label=torch.zeros(samples, dtype=torch.long),
              attention_mask=None if full else mask)


def once():
    begin, cpu_begin = time.perf_counter(), time.process_time()
    optimizer.zero_grad(set_to_none=True)
    step(**inputs).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return time.perf_counter() - begin, time.process_time() - cpu_begin


for _ in range(2 if how == "compile" else 1):
    once()
times = [once() for _ in range(repeats)]
print(json.dumps({"row": sys.argv[1], "how": how, "torch": torch.__version__.split("+")[0], "threads": threads, "samples": samples, "step": statistics.median(t[0] for t in times),
                  "cpu_step": statistics.median(t[1] for t in times),
                  "memory": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)}))
