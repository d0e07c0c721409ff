"""Variants of folders.py: vocabularies, tokenizers and their configurations as others write them."""
from folder_kit import *  # noqa: F403


@variant()
def vocab_txt(folder):
    save(folder)
