"""Variants of folders.py: weights, their names and files, config.json."""
from folder_kit import *  # noqa: F403


@variant()
def bert_classifier(folder):
    save(folder)


@variant()
def albert_classifier(folder):
    save(folder, "AlbertForSequenceClassification")


@variant(head="mlm")
def bert_pretraining(folder):
    save(folder, "BertForPreTraining")


@variant(head="mlm")
def bert_masked_lm(folder):
    save(folder, "BertForMaskedLM")


@variant(refuses=(66, "several files|missing"))
def shard_missing(folder):
    save(folder)
    (folder / shard(folder)[1]).unlink()
