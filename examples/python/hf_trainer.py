"""Hugging Face's Trainer under bertd: python hf_trainer.py TEXT [STEPS]. Masked language modelling of bytes."""

import sys

import torch
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments, set_seed

import bertd
from bertd_huggingface import BertdCallback
from byte_model import SEED, read_text

MASK, LENGTH = 256, 64


class Rows(torch.utils.data.Dataset):
    """Row i and what is masked in it are functions of i."""

    def __init__(self, path: str) -> None:
        self.text = read_text(path)

    def __len__(self) -> int:
        return (len(self.text) - 1) // LENGTH

    def __getitem__(self, i: int) -> dict:
        labels = self.text[i * LENGTH : (i + 1) * LENGTH].long()
        masked = torch.rand(LENGTH, generator=torch.Generator().manual_seed(i)) < 0.15
        return {"input_ids": labels.masked_fill(masked, MASK), "labels": labels.masked_fill(~masked, -100)}


def main() -> None:
    config = BertConfig(
        vocab_size=257, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=bertd.run_dir("out"),
        max_steps=int(sys.argv[2]) if len(sys.argv) > 2 else 1000,
        per_device_train_batch_size=16,
        save_steps=50,
        save_total_limit=3,
        logging_steps=10,
        seed=SEED,
        report_to=[],
        disable_tqdm=True,
    )
    set_seed(SEED)  # TrainingArguments' seed is set after the model is made
    trainer = Trainer(BertForMaskedLM(config), arguments, train_dataset=Rows(sys.argv[1]), callbacks=[BertdCallback()])
    print(f"begin at {bertd.resume() or 'step 0'}", flush=True)
    trainer.train(resume_from_checkpoint=bertd.resume())


main()
