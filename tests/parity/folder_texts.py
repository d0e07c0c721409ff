"""Variants of folders.py: vocabularies, tokenizers and their configurations as others write them."""
from folder_kit import *  # noqa: F403

N = len(VOCAB)
ADDED_TEXTS = ["the new [NEW] film", "New York is Great[NEW]the page", "a <e1>slow</e1> book <E1>", "Foobar, foobarx foobar", "hello  new york  world"]


def token(content, id=None, **keys):
    """An added token as tokenizer.json has it; without id as added_tokens_decoder's values are."""
    value = dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=True, special=False) | keys
    return value if id is None else {"id": id, **value}


def decoder(*tokens):
    return {"added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokens}}


def grown(folder, rows=N + 8, **keys):
    """A classifier whose embeddings have rows beyond the vocabulary."""
    return save(folder, vocab_size=rows, **keys)


def lines(folder, text):
    (folder / "vocab.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


def joined(vocab=VOCAB, end="\n"):
    return "".join(t + end for t in vocab)


def fast(folder, tokens=(), normalizer=None, vocab=None, **parts):
    """tokenizer.json as BertTokenizerFast saves it, without vocab.txt."""
    special = [token(t, i, normalized=False, special=True) for i, t in enumerate(VOCAB[:5])]
    piece = {t: {"id": t, "ids": [VOCAB.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    one = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special + list(tokens),
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True} | (normalizer or {}),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": one, "special_tokens": piece,
                           "pair": one + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": vocab or {t: i for i, t in enumerate(VOCAB)}}} | parts)
    (folder / "vocab.txt").unlink(missing_ok=True)


# ---- JSON ----

@variant()
def model_max_length_beyond_64_bits(folder):
    save(folder)
    write_vocab(folder, model_max_length=1000000000000000019884624838656)


@variant()
def json_as_python_writes_it(folder):
    save(folder)
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        text = path.read_text().replace("{", '{"odd": [NaN, Infinity, -Infinity, 1E400, 13444675123456789012, "\\ud800", "\\u0000"], ', 1)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode() if name == "never.json" else text.encode())


# ---- vocab.txt ----

@variant()
def vocab_txt(folder):
    save(folder)


@variant()
def vocab_empty_line(folder):
    save(folder, vocab_size=N + 1)
    lines(folder, joined().replace("\nfilm\n", "\n\nfilm\n"))


@variant()
def vocab_duplicate(folder):
    save(folder, vocab_size=N + 1)
    lines(folder, joined() + "film\n")


@variant()
def vocab_duplicate_within(folder):
    save(folder, vocab_size=N + 1)
    lines(folder, joined().replace("\nmemory\n", "\nfilm\nmemory\n"))


@variant()
def vocab_bom(folder):
    save(folder)
    lines(folder, "\ufeff" + joined())


@variant()
def vocab_trailing_blank_lines(folder):
    save(folder)
    lines(folder, joined() + "\n\n")


@variant()
def vocab_crlf(folder):
    save(folder)
    lines(folder, joined(end="\r\n"))


@variant()
def vocab_no_newline_at_end(folder):
    save(folder)
    lines(folder, joined()[:-1])


@variant(versions=(5, 99))
def vocab_trailing_spaces(folder):
    save(folder)
    lines(folder, joined().replace("\nfilm\n", "\nfilm \n").replace("\nbook\n", "\nbook\t\u2028\n"))


@variant(refuses=(65, "vocab.txt: a Git LFS pointer.*git lfs pull"))
def vocab_lfs_pointer(folder):
    save(folder)
    lines(folder, f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 231508\n")


@variant(refuses=(65, "model.safetensors: a Git LFS pointer.*git lfs pull"))
def weights_lfs_pointer(folder):
    save(folder)
    (folder / "model.safetensors").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 437951328\n")


@variant(refuses=(65, "config.json: a Git LFS pointer"))
def config_lfs_pointer(folder):
    save(folder)
    (folder / "config.json").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 570\n")


# ---- tokenizer.json ----

@variant()
def tokenizer_json_alone(folder):
    save(folder)
    fast(folder)


@variant()
def saved_by_transformers(folder):
    import transformers
    save(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    (folder / "vocab.txt").unlink()
    tokenizer.save_pretrained(folder)


@variant(texts=ADDED_TEXTS)
def saved_by_transformers_with_added_tokens(folder):
    import transformers
    grown(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[NEW]", "new york"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>", "</e1>"]})
    (folder / "vocab.txt").unlink()
    tokenizer.save_pretrained(folder)


@variant(texts=["Café HELLO film", "café hello film"])
def tokenizer_json_cased(folder):
    save(folder)
    fast(folder, normalizer={"lowercase": False, "strip_accents": True})
    edit(folder / "tokenizer_config.json", do_lower_case=False, strip_accents=True)


@variant(texts=["Café HELLO film", "café hello film"], says="normalizer.*is used, as in transformers")
def tokenizer_json_contradicts_config(folder):
    save(folder)
    fast(folder, normalizer={"lowercase": False})


@variant(texts=["Café HELLO film", "café hello film"])
def tokenizer_json_generic_class(folder):
    save(folder)
    fast(folder, normalizer={"lowercase": False, "strip_accents": True})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64})


@variant(says="differ from id")
def tokenizer_json_and_another_vocab_txt(folder):
    save(folder)
    fast(folder)
    lines(folder, joined().replace("\nfilm\nbook\n", "\nbook\nfilm\n"))


@variant(refuses=(65, "model.type is BPE"))
def tokenizer_json_bpe(folder):
    save(folder)
    fast(folder, model={"type": "BPE", "vocab": {}, "merges": []})


@variant(refuses=(65, "pre_tokenizer is Whitespace"))
def tokenizer_json_pre_tokenizer(folder):
    save(folder)
    fast(folder, pre_tokenizer={"type": "Whitespace"})


@variant(refuses=(65, "normalizer is Sequence"))
def tokenizer_json_normalizer(folder):
    save(folder)
    fast(folder, normalizer={"type": "Sequence", "normalizers": []})


@variant(refuses=(65, "post_processor is missing"))
def tokenizer_json_no_template(folder):
    save(folder)
    fast(folder, post_processor=None)


@variant(refuses=(65, "continuing_subword_prefix"))
def tokenizer_json_prefix(folder):
    save(folder)
    fast(folder)
    edit(folder / "tokenizer.json", model=json.loads((folder / "tokenizer.json").read_text())["model"] | {"continuing_subword_prefix": "@@"})


@variant(refuses=(66, "spiece.model.*copy spiece.model"))
def unigram_without_spiece_model(folder):
    save(folder, "AlbertForSequenceClassification")
    fast(folder, model={"type": "Unigram", "unk_id": 1, "vocab": [["<pad>", 0.0], ["<unk>", 0.0]]})


@variant(refuses=(65, "tokenizer_class BertJapaneseTokenizer"))
def japanese_tokenizer(folder):
    save(folder)
    edit(folder / "tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer")


# ---- added tokens ----

@variant(texts=ADDED_TEXTS)
def added_tokens_json(folder):
    grown(folder)
    write_json(folder / "added_tokens.json", {"[NEW]": N, "foobar": N + 1})


@variant(texts=ADDED_TEXTS[:2])
def added_tokens_json_in_another_order(folder):
    grown(folder)
    write_json(folder / "added_tokens.json", {"[NEW]": N + 1, "new york": N})


@variant(texts=ADDED_TEXTS, says=rf"'\[NEW\]' has id {N + 3} in its file; as in transformers, it is {N}")
def added_tokens_json_with_a_hole(folder):
    grown(folder)
    write_json(folder / "added_tokens.json", {"[NEW]": N + 3})


@variant(texts=ADDED_TEXTS)
def added_tokens_decoder(folder):
    grown(folder)
    write_vocab(folder, **decoder(token("[NEW]", N, normalized=False), token("foobar", N + 1, single_word=True),
                                  token("<e1>", N + 2, lstrip=True, rstrip=True, special=True, normalized=False)))


@variant(texts=["film book the film, a filmx", "Film <e1>"])
def added_tokens_of_the_vocabulary(folder):
    save(folder)
    write_vocab(folder, **decoder(token("film", VOCAB.index("film"), normalized=False), token("book", VOCAB.index("book"), single_word=True)))


@variant(texts=ADDED_TEXTS)
def special_tokens_map(folder):
    grown(folder)
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": ["<e1>", "</e1>"], "cls_token": "[CLS]"})


@variant(texts=ADDED_TEXTS[:2])
def special_tokens_map_beside_a_decoder(folder):
    grown(folder)
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": ["<e1>"]})
    write_json(folder / "added_tokens.json", {"film": N + 1})
    write_vocab(folder, **decoder(token("[NEW]", N)))


@variant(texts=ADDED_TEXTS)
def additional_special_tokens(folder):
    grown(folder)
    write_vocab(folder, additional_special_tokens=["<e1>", "</e1>"])


@variant(texts=ADDED_TEXTS, versions=(5, 99))
def extra_special_tokens(folder):
    grown(folder)
    write_vocab(folder, extra_special_tokens=["<e1>", "</e1>"])


@variant(texts=ADDED_TEXTS)
def extra_special_tokens_by_name(folder):
    grown(folder)
    write_vocab(folder, extra_special_tokens={"begin_token": "<e1>"})


@variant(texts=ADDED_TEXTS)
def tokenizer_json_with_added_tokens(folder):
    grown(folder)
    fast(folder, [token("[NEW]", N, normalized=False), token("foobar", N + 1, single_word=True)])


@variant(texts=ADDED_TEXTS)
def tokenizer_json_and_a_decoder(folder):
    grown(folder)
    fast(folder, [token("foobar", N)])
    edit(folder / "tokenizer_config.json", **decoder(token("foobar", N, single_word=True), token("[NEW]", N + 1)))


@variant(texts=["the page x   x  the\u00e9 the_ the- \u00e9the the\u0301 the\u24b6 2the the\u200d", "a  page", "x"])
def added_whitespace_and_words(folder):
    grown(folder)
    write_vocab(folder, **decoder(token(" page", N, normalized=False), token("x", VOCAB.index("x"), lstrip=True, rstrip=True, normalized=False),
                                  token("  ", N + 1, normalized=False), token("the", VOCAB.index("the"), single_word=True, normalized=False)))


@variant(texts=["\u4e2d\u6587 ete \u00e9T\u00c9! ab a\u0301B New  York new york New\tYork a lead b i\u0307x \u0130X ix", "ete"])
def added_normalized(folder):
    grown(folder)
    write_vocab(folder, **decoder(*(token(t, N + i) for i, t in enumerate(["\u4e2d\u6587", "\u00c9t\u00e9", "a\u0301b", "new york", " lead ", "\u0130x"]))))


@variant(texts=["ete \u00c9t\u00e9 new\u00a0york New york", "film"])
def added_normalized_cased(folder):
    grown(folder)
    write_vocab(folder, do_lower_case=False, **decoder(token("\u00c9t\u00e9", N), token("new york", N + 1)))


@variant(texts=["foo bar foox fo o b foofoo bar", "foo"])
def added_overlapping(folder):
    grown(folder)
    write_vocab(folder, **decoder(*(token(t, N + i, normalized=False) for i, t in enumerate(["foo bar", "foo", "o b"]))))


@variant(texts=["<s> the film [CLS] </s>", "film <unk> qqq"])
def special_tokens_of_other_names(folder):
    save(folder)
    names = {"[CLS]": "<s>", "[SEP]": "</s>", "[UNK]": "<unk>"}
    write_vocab(folder, [names.get(t, t) for t in VOCAB], cls_token="<s>", sep_token="</s>", unk_token="<unk>")


@variant(refuses=(65, "config.json|vocab_size"))
def added_beyond_the_embeddings(folder):
    save(folder)
    write_json(folder / "added_tokens.json", {"[NEW]": N})


@variant(head="mlm", texts=["the <e1> [MASK] is great", "an [NEW] [MASK] book"])
def added_in_masked_texts(folder):
    save(folder, "BertForMaskedLM", vocab_size=N + 8)
    write_vocab(folder, **decoder(token("[NEW]", N), token("<e1>", N + 1, special=True, normalized=False)))
