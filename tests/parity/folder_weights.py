"""Variants of folders.py: weights, their names and files, config.json."""
import re

from folder_kit import *  # noqa: F403


# ---- what transformers writes ----

@variant(embeds=True)
def bert_classifier(folder):
    save(folder)


@variant(embeds=True)
def albert_classifier(folder):
    save(folder, "AlbertForSequenceClassification")


@variant(head="mlm", embeds=True)
def bert_pretraining(folder):
    save(folder, "BertForPreTraining")


@variant(head="mlm")
def bert_masked_lm(folder):
    save(folder, "BertForMaskedLM")


@variant(head="mlm", embeds=True)
def albert_masked_lm(folder):
    save(folder, "AlbertForMaskedLM")


@variant(head="none", embeds=True)
def bert_model(folder):
    save(folder, "BertModel")


@variant(head="none", embeds=True)
def albert_model(folder):
    save(folder, "AlbertModel")


# ---- shards ----

@variant()
def shards(folder):
    save(folder)
    shard(folder)


@variant(head="mlm")
def shards_albert(folder):
    save(folder, "AlbertForPreTraining")
    shard(folder, 2)


@variant()
def shards_by_transformers(folder):
    model = save(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists()


@variant()
def shards_beside_one_file(folder):
    save(folder)
    whole = (folder / "model.safetensors").read_bytes()
    shard(folder)
    (folder / "model.safetensors").write_bytes(whole)


@variant(refuses=(66, "model-00002-of-00003.safetensors: missing"))
def shard_missing(folder):
    save(folder)
    (folder / shard(folder)[1]).unlink()


@variant(refuses=(65, "model-00001-of-00003.safetensors: holds tensor .*which model.safetensors.index.json places in"))
def shard_twice(folder):
    save(folder)
    first, second, _ = shard(folder)
    one, two = read_tensors(folder / first), read_tensors(folder / second)
    name = next(iter(two))
    write_tensors(folder / first, one | {name: two[name]})


@variant(refuses=(65, "is not in model.safetensors.index.json"))
def shard_not_listed(folder):
    save(folder)
    shard(folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["bert.pooler.dense.bias"]
    write_json(path, index)


@variant(refuses=(65, "tensor bert.pooler.dense.extra is missing, but"))
def shard_lacks_listed(folder):
    save(folder)
    names = shard(folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["bert.pooler.dense.extra"] = names[0]
    write_json(path, index)


@variant(refuses=(65, "weight_map: .* is not a file's name"))
def shard_elsewhere(folder):
    save(folder)
    names = shard(folder)
    path = folder / "model.safetensors.index.json"
    path.write_text(path.read_text().replace(names[0], "../" + names[0]))


@variant(refuses=(65, "not whole|do not hold|not a whole"))
def shard_cut(folder):
    save(folder)
    path = folder / shard(folder)[2]
    path.write_bytes(path.read_bytes()[:-100])


# ---- names ----

@variant(reference=reference_of("BertForSequenceClassification", beside))
def prefix_model(folder):
    save(folder)
    copy_beside(folder)
    rename(folder, "^", "model.")


@variant(reference=reference_of("BertForSequenceClassification", beside))
def prefix_module(folder):
    save(folder)
    copy_beside(folder)
    rename(folder, "^", "module.")


@variant(reference=reference_of("BertForSequenceClassification", beside))
def prefix_compiled(folder):
    save(folder)
    copy_beside(folder)
    rename(folder, "^", "_orig_mod.module.")


@variant(reference=reference_of("BertForSequenceClassification", beside))
def prefix_none_with_head(folder):
    """The encoder without a prefix, the head as it is."""
    save(folder)
    copy_beside(folder)
    rename(folder, r"^bert\.", "")


@variant(reference=reference_of("AlbertForSequenceClassification", beside))
def prefix_albert_module(folder):
    save(folder, "AlbertForSequenceClassification")
    copy_beside(folder)
    rename(folder, "^", "module.")


@variant(head="none")
def prefix_bert_of_model(folder):
    """BertModel with the prefix that the classes with heads give it."""
    save(folder, "BertModel")
    rename(folder, "^", "bert.")


@variant(refuses=(65, "are both bert.embeddings.word_embeddings.weight"))
def prefix_both(folder):
    save(folder)
    path = folder / "model.safetensors"
    tensors = read_tensors(path)
    write_tensors(path, tensors | {"embeddings.word_embeddings.weight": tensors["bert.embeddings.word_embeddings.weight"]})


@variant(reference=reference_of("BertForSequenceClassification", beside))
def gamma_beta(folder):
    save(folder)
    copy_beside(folder)
    rename(folder, r"LayerNorm\.weight$", "LayerNorm.gamma")
    rename(folder, r"LayerNorm\.bias$", "LayerNorm.beta")


@variant(head="mlm", reference=reference_of("BertForPreTraining", beside))
def gamma_beta_pretraining(folder):
    save(folder, "BertForPreTraining")
    copy_beside(folder)
    rename(folder, r"LayerNorm\.weight$", "LayerNorm.gamma")
    rename(folder, r"LayerNorm\.bias$", "LayerNorm.beta")


def with_decoder(folder, tensors_of):
    path = folder / "model.safetensors"
    tensors = read_tensors(path)
    write_tensors(path, tensors | tensors_of(tensors))


@variant(head="mlm")
def decoder_tied(folder):
    save(folder, "BertForMaskedLM")
    with_decoder(folder, lambda t: {"cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"],
                                    "cls.predictions.decoder.bias": t["cls.predictions.bias"]})


@variant(head="mlm")
def decoder_tied_albert(folder):
    save(folder, "AlbertForMaskedLM")
    with_decoder(folder, lambda t: {"predictions.decoder.weight": t["albert.embeddings.word_embeddings.weight"],
                                    "predictions.decoder.bias": t["predictions.bias"]})


@variant(head="mlm", reference=reference_of("BertForMaskedLM", beside))
def decoder_bias_alone(folder):
    save(folder, "BertForMaskedLM")
    copy_beside(folder)
    rename(folder, r"^cls\.predictions\.bias$", "cls.predictions.decoder.bias")


@variant(refuses=(65, "decoder.weight is not bert.embeddings.word_embeddings.weight"))
def decoder_of_its_own(folder):
    save(folder, "BertForMaskedLM")
    with_decoder(folder, lambda t: {"cls.predictions.decoder.weight": (t["bert.embeddings.word_embeddings.weight"][0],
                                                                       t["bert.embeddings.word_embeddings.weight"][1],
                                                                       bytes(len(t["bert.embeddings.word_embeddings.weight"][2])))})


@variant()
def position_ids(folder):
    save(folder)
    ids = struct.pack("<64q", *range(64))
    with_decoder(folder, lambda t: {"bert.embeddings.position_ids": ("I64", [1, 64], ids),
                                    "bert.embeddings.token_type_ids": ("I64", [1, 64], bytes(512))})


@variant(says="extra.weight is not a tensor of this model: left out")
def tensor_too_many(folder):
    save(folder)
    with_decoder(folder, lambda t: {"extra.weight": ("F32", [1], bytes(4))})


@variant(refuses=(65, "bert.encoder.layer.1.output.dense.bias is missing"))
def tensor_missing(folder):
    save(folder)
    path = folder / "model.safetensors"
    write_tensors(path, {k: t for k, t in read_tensors(path).items() if k != "bert.encoder.layer.1.output.dense.bias"})


# ---- other files ----

@variant(refuses=(66, "pytorch_model.bin is a Python pickle.*save_pretrained"))
def pickle(folder):
    import torch
    model = save(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


@variant(refuses=(66, "tf_model.h5 is TensorFlow's"))
def tensorflow(folder):
    save(folder)
    (folder / "model.safetensors").rename(folder / "tf_model.h5")


@variant(refuses=(66, "model.safetensors: No such file"))
def no_weights(folder):
    save(folder)
    (folder / "model.safetensors").unlink()


# ---- which head ----

@variant()
def classifier_without_architectures(folder):
    save(folder, config=dict(architectures=None))


@variant()
def classifier_of_another_class(folder):
    save(folder, config=dict(architectures=["BertModel"]))


@variant(head="mlm")
def words_without_architectures(folder):
    save(folder, "BertForMaskedLM", config=dict(architectures=None))


@variant(head="mlm")
def albert_words_without_architectures(folder):
    save(folder, "AlbertForPreTraining", config=dict(architectures=None))


@variant()
def albert_classifier_without_architectures(folder):
    save(folder, "AlbertForSequenceClassification", config=dict(architectures=None))


@variant(head="none", says="classifier.weight is not a tensor of this model: left out")
def token_classifier(folder):
    save(folder, "BertForTokenClassification", num_labels=3)


@variant(head="none", says="qa_outputs.weight is not a tensor of this model: left out")
def question_answering(folder):
    save(folder, "BertForQuestionAnswering")


@variant(refuses=(65, "architectures: missing, but"))
def two_heads_without_architectures(folder):
    save(folder, config=dict(architectures=None))
    other = make("BertForPreTraining").state_dict()
    with_decoder(folder, lambda t: {k: ("F32", list(v.shape), v.numpy().tobytes()) for k, v in other.items()
                                    if k.startswith("cls.predictions.") and "decoder" not in k})


# ---- classes ----

def classes(folder, rows=3, **config):
    """A head of so many rows, and these keys about it in config.json; those that are None are absent."""
    save(folder, id2label={i: str(i) for i in range(rows)}, label2id={str(i): i for i in range(rows)})
    edit(folder / "config.json", **{"id2label": None, "label2id": None, "num_labels": None, **config})


def as_labels(*names):
    """A reference for a folder whose classes transformers does not name so, or not at all."""
    def read(folder):
        import transformers
        model = transformers.BertForSequenceClassification.from_pretrained(folder, dtype="float32", num_labels=len(names))
        model.config.id2label = dict(enumerate(names))
        return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)
    return read


@variant()
def num_labels(folder):
    classes(folder, 5, num_labels=5)


@variant()
def two_classes_by_default(folder):
    classes(folder, 2)


@variant(reference=as_labels(*(f"LABEL_{i}" for i in range(4))))
def classes_by_rows(folder):
    classes(folder, 4)


@variant(reference=as_labels("a", "b", "c"))
def label2id_alone(folder):
    classes(folder, label2id={"c": 2, "a": 0, "b": 1})


@variant()
def label2id_left_behind(folder):
    classes(folder, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2})


@variant(refuses=(65, "label2id: 'a' is class 1, but id2label has another name there"))
def label2id_contradicts(folder):
    classes(folder, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 1, "b": 0, "c": 2})


@variant(refuses=(65, "label2id: 'd' is class 2, but id2label has no such name"))
def label2id_other_name(folder):
    classes(folder, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "d": 2})


@variant(refuses=(65, "id2label has 2 classes, but the head .* has 3 rows"))
def names_too_few(folder):
    classes(folder, id2label={"0": "a", "1": "b"})


@variant(refuses=(65, "num_labels has 2 classes, but the head .* has 3 rows"))
def number_too_small(folder):
    classes(folder, num_labels=2)


@variant(refuses=(65, 'id2label has no "1"'))
def names_with_a_gap(folder):
    classes(folder, id2label={"0": "a", "2": "b", "3": "c"})


@variant(refuses=(65, "id2label: 'a' is given twice"))
def names_twice(folder):
    classes(folder, id2label={"0": "a", "1": "b", "2": "a"})


@variant(head="number")
def regression(folder):
    classes(folder, 1, num_labels=1)


@variant(head="number")
def regression_by_problem_type(folder):
    classes(folder, 1, num_labels=1, problem_type="regression")


@variant(head="number", embeds=True)
def albert_regression(folder):
    save(folder, "AlbertForSequenceClassification", id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0}, problem_type="regression")


@variant(head="number", tunes=("sequence_length: 64", {}))
def tuned_regression(folder):
    classes(folder, 1, num_labels=1, problem_type="regression")


@variant(refuses=(65, "problem_type: regression, but there are 3 labels"))
def regression_of_several(folder):
    save(folder, config=dict(problem_type="regression"))


@variant(refuses=(65, "problem_type"))
def multi_label(folder):
    save(folder, config=dict(problem_type="multi_label_classification"))


@variant(refuses=(65, "num_labels is 5, but id2label has 3 classes"))
def num_labels_beside_names(folder):
    save(folder, config=dict(num_labels=5))


@variant(reference=as_labels("7", "8", "9"))
def names_that_are_numbers(folder):
    classes(folder, id2label={"0": 7, "1": 8, "2": 9})


@variant(head="none", says="classifier.weight is not in the folder: initialised randomly", export=False)
def head_missing(folder):
    save(folder)
    path = folder / "model.safetensors"
    write_tensors(path, {k: t for k, t in read_tensors(path).items() if not k.startswith("classifier")})


@variant()
def many_classes(folder):
    names = [f"topic {i} \u00e4\u4e2d \"quoted\"" for i in range(120)]
    save(folder, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})


# ---- config.json ----

def acts(*names):
    for act in names:
        def write(folder, act=act):
            save(folder, hidden_act=act)
        write.__name__ = "act_" + act
        variant()(write)


acts("gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu")


def other_acts(*names):
    for act in names:
        def write(folder, act=act):
            save(folder, hidden_act=act)
        write.__name__ = "act_" + act
        variant(refuses=(78, f"hidden_act is '{act}', expected gelu"))(write)


other_acts("quick_gelu", "silu", "swish", "gelu_10", "mish", "tanh", "relu6", "leaky_relu")


@variant(head="mlm")
def act_gelu_new_words(folder):
    save(folder, "BertForMaskedLM", hidden_act="gelu_pytorch_tanh")


@variant()
def act_albert_gelu(folder):
    save(folder, "AlbertForSequenceClassification", hidden_act="gelu")


@variant()
def one_type(folder):
    save(folder, type_vocab_size=1)


@variant(head="mlm")
def one_type_words(folder):
    save(folder, "BertForMaskedLM", type_vocab_size=1)


@variant()
def three_types(folder):
    save(folder, type_vocab_size=3)


@variant(refuses=(78, "type_vocab_size is 0"))
def no_type(folder):
    save(folder, config=dict(type_vocab_size=0))


@variant()
def layer_norm_eps(folder):
    save(folder, layer_norm_eps=1e-3)


@variant(refuses=(78, "position_embedding_type is 'relative_key'"))
def relative_positions(folder):
    save(folder, config=dict(position_embedding_type="relative_key"))


@variant(refuses=(78, "pruned_heads"))
def pruned_heads(folder):
    save(folder, config=dict(pruned_heads={"0": [1]}))


@variant(refuses=(78, "is_decoder is true"))
def decoder(folder):
    save(folder, config=dict(is_decoder=True))


@variant(refuses=(78, "model_type is 'roberta'"))
def roberta(folder):
    save(folder, config=dict(model_type="roberta"))


@variant()
def no_model_type(folder):
    """As in 2018; AutoModel needs it, BertForSequenceClassification does not."""
    save(folder, config=dict(model_type=None))


VARIANTS["no-model-type"].reference = reference_of("BertForSequenceClassification", lambda folder: folder)


@variant()
def padded_vocabulary(folder):
    save(folder, vocab_size=(len(VOCAB) + 63) // 64 * 64)


@variant(refuses=(65, r"word_embeddings.weight has shape \[\d+, 32\], expected \[\d+, 32\]"))
def vocabulary_size_differs(folder):
    save(folder, config=dict(vocab_size=len(VOCAB) + 5))


@variant(refuses=(65, "config.json has a vocab_size of|vocab_size"))
def vocabulary_too_large(folder):
    save(folder)
    write_vocab(folder, VOCAB + ["more"])


@variant()
def positions_512(folder):
    save(folder, max_position_embeddings=512)


def halves(folder, dtype, **keys):
    model = make(keys.pop("name", "BertForSequenceClassification"), **keys)
    import torch
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    write_vocab(folder)


@variant()
def float16(folder):
    halves(folder, "float16")


@variant()
def bfloat16(folder):
    halves(folder, "bfloat16")


@variant()
def float64(folder):
    halves(folder, "float64")


@variant(head="mlm")
def bfloat16_words(folder):
    halves(folder, "bfloat16", name="BertForPreTraining")


@variant(refuses=(65, "not of floating point"))
def int8(folder):
    save(folder)
    path = folder / "model.safetensors"
    write_tensors(path, {k: ("I8", t[1], t[2][::4]) if k.endswith("query.weight") else t for k, t in read_tensors(path).items()})


@variant(refuses=(65, "not finite"))
def not_a_number(folder):
    save(folder)
    path = folder / "model.safetensors"
    write_tensors(path, {k: (t[0], t[1], b"\0\0\xc0\x7f" + t[2][4:]) if k.endswith("query.weight") else t for k, t in read_tensors(path).items()})


# ---- how long a text may be ----

LONG = ["the a of to in is was be " * 3 + "great film", "awful book " * 12, "hello world"]


def with_tokenizer_json(folder, truncation=None, **settings):
    """As transformers saves a fast tokenizer, with a section of truncation."""
    import transformers
    write_vocab(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["truncation"] = truncation
    write_json(path, tokenizer)
    edit(folder / "tokenizer_config.json", **settings)


@variant(texts=LONG)
def length_16(folder):
    save(folder)
    write_vocab(folder, model_max_length=16)


@variant(texts=LONG)
def length_16_left(folder):
    save(folder)
    write_vocab(folder, model_max_length=16, truncation_side="left")


@variant(texts=LONG)
def side_right(folder):
    save(folder)
    write_vocab(folder, model_max_length=20, truncation_side="right")


@variant(texts=TEXTS)
def length_without_end(folder):
    save(folder)
    write_vocab(folder, model_max_length=1000000000000000019884624838656)


@variant(texts=TEXTS)
def length_beyond_positions(folder):
    save(folder)
    write_vocab(folder, model_max_length=512)


@variant(texts=LONG)
def direction_of_tokenizer_json(folder):
    save(folder)
    with_tokenizer_json(folder, {"direction": "Left", "max_length": 12, "strategy": "LongestFirst", "stride": 0}, model_max_length=20, truncation_side=None)


@variant(texts=LONG)
def side_beside_tokenizer_json(folder):
    save(folder)
    with_tokenizer_json(folder, {"direction": "Left", "max_length": 12, "strategy": "LongestFirst", "stride": 0}, model_max_length=20,
                        truncation_side="right")


@variant(texts=LONG)
def albert_length_left(folder):
    save(folder, "AlbertForSequenceClassification")
    write_vocab(folder, model_max_length=16, truncation_side="left")


@variant(texts=LONG, tunes=("sequence_length: 16, truncation: tail", dict(model_max_length=16, truncation_side="left")))
def tuned_on_tails(folder):
    save(folder)


@variant(texts=LONG, tunes=("sequence_length: 24", dict(model_max_length=24, truncation_side="left")))
def tuned_as_the_folder_sets(folder):
    save(folder)
    write_vocab(folder, model_max_length=16, truncation_side="left")


@variant(texts=LONG, tunes=("shuffle: false", dict(model_max_length=16, truncation_side="left")))
def tuned_with_the_length_of_the_folder(folder):
    save(folder)
    write_vocab(folder, model_max_length=16, truncation_side="left")


@variant(texts=LONG, tunes=("sequence_length: 16, truncation: head_tail", {}), export=(65, "head_tail.*--truncation head"))
def tuned_on_heads_and_tails(folder):
    save(folder)


VARIANTS["tuned-on-heads-and-tails"].head = "none" # transformers has no such cut


# ---- pairs of texts ----

@variant(pair=True)
def pairs(folder):
    save(folder)


@variant(pair=True)
def pairs_albert(folder):
    save(folder, "AlbertForSequenceClassification")


def short(folder, length, **keys):
    save(folder)
    edit(folder / "tokenizer_config.json", model_max_length=length, **keys)


@variant(pair=True)
def pairs_of_16(folder):
    short(folder, 16)


@variant(pair=True)
def pairs_of_15(folder):
    short(folder, 15)


@variant(pair=True)
def pairs_of_12_left(folder):
    short(folder, 12, truncation_side="left")


@variant(pair=True, embeds=True)
def pairs_of_13_left(folder):
    short(folder, 13, truncation_side="left")


@variant(pair=True, tunes=("sequence_length: 14", dict(model_max_length=14)))
def tuned_pairs(folder):
    save(folder)


@variant(pair=True, tunes=("sequence_length: 11, truncation: tail", dict(model_max_length=11, truncation_side="left")))
def tuned_pairs_of_albert(folder):
    save(folder, "AlbertForSequenceClassification")


@variant(pair=True, head="number", tunes=("sequence_length: 20", dict(model_max_length=20)))
def tuned_pairs_of_a_number(folder):
    classes(folder, 1, num_labels=1, problem_type="regression")
