"""What the variants of folders.py are made of: a vocabulary, random models, their folders.

A variant is a function that writes a model's folder, decorated with @variant; its name is the function's, with - for _. What is held against
transformers follows from its arguments:

  refuses=(CODE, PATTERN)  import ends with that exit code and one line that matches; nothing else is looked at
  says=PATTERN             import prints a line that matches
  head                     "classifier": probabilities of `predict`; "number": its numbers and the mean squared error of
                           `evaluate`; "mlm": probabilities of `fill-mask`, which prints three digits; "none": nothing
  reference                function FOLDER → (model, tokenizer), where transformers' own classes do not read the folder as it is
  texts                    what is tokenised and classified (default TEXTS); of "mlm", each has one [MASK]
  pair                     texts are PAIRS: ids, segments and logits of both together
  embeds                   `embed` of every layer, by both poolings, is compared with hidden_states, too
  truncates                texts are cut at the tokenizer's model_max_length, as transformers does when asked to truncate (default true)
  tunes=(KEYS, SETTINGS)   what is looked at is a fine-tuning of the folder at a rate of 0, with those keys of the spec's data, and a tokenizer of
                           those settings
  export=False             export is not looked at; export=(CODE, PATTERN): it is refused
  versions=(FIRST, LAST)   of transformers, major numbers: others cannot write or read such a folder
"""
import dataclasses
import json
import pathlib
import re
import shutil
import struct

WORDS = """the a an of to and in is was be this that new old small large fast slow good bad great awful film book page kernel memory device
network packet file lock thread clock reads writes sends drops un ##able ##s ##ed ##ing ##er ##ly hello world cafe naive""".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCAB = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?;:'\"()-/[]<>&#@_$%*+=", *LETTERS, *("##" + c for c in LETTERS), *WORDS]))
TEXTS = ["the new film is great !", "an awful, slow book", "This page reads the kernel's memory.", "hello world", "unreadable files; locked threads",
         "Café and naïve", "qqq 123", "the a of to in is was be " * 3]
MASKED = ["the new [MASK] is great !", "an awful, [MASK] book", "hello [MASK]"]
SMALL = dict(vocab_size=len(VOCAB), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=64,
             initializer_range=0.2)
PAIRS = [("the new film is great !", "an awful, slow book"), ("a", "b"), ("hello world", "the a of to in is was be that this new old small"),
         ("the a of to in is was be that this new old small", "hello world"), ("Café and naïve [SEP] films", "unreadable files; locked threads"),
         ("the a of to in is was be", "an film book page kernel memory device network"), ("the a of to in is was be this", "an film book page kernel memory device"),
         ("the a of to in is was", "an film book page kernel memory device network"), ("a", "the a of to in is was be this that new old small large fast slow")]
NAMES = ["negative", "positive", "neutral"]
VARIANTS = {}


@dataclasses.dataclass
class Variant:
    name: str
    write: object
    refuses: tuple | None = None
    says: str | None = None
    head: str = "classifier"
    reference: object = None
    texts: list | None = None
    pair: bool = False
    embeds: bool = False
    truncates: bool = True
    tunes: tuple | None = None
    export: object = True
    versions: tuple = (4, 99)


def variant(**keys):
    def add(function):
        name = function.__name__.strip("_").replace("_", "-")
        assert name not in VARIANTS, name
        VARIANTS[name] = Variant(name, function, **keys)
        return function
    return add


# ---- models ----

def stir(model, seed=1):
    """Random weights of which no bias and no LayerNorm is 0 or 1: they would hide a mistake."""
    import torch
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.1)
            else:
                p.copy_(torch.randn_like(p) * model.config.initializer_range)
    return model.eval()


def make(name, seed=1, **keys):
    """A random model of that class of transformers; classifiers have NAMES where `keys` do not say otherwise."""
    import transformers
    kind = "Albert" if name.startswith("Albert") else "Bert"
    more = dict(embedding_size=16, num_hidden_groups=1) if kind == "Albert" else {}
    if name.endswith("SequenceClassification"):
        more |= dict(id2label=dict(enumerate(NAMES)), label2id={n: i for i, n in enumerate(NAMES)})
    config = getattr(transformers, kind + "Config")(**{**SMALL, **more, **keys})
    return stir(getattr(transformers, name)(config), seed)


# ---- folders ----

def write_vocab(folder, vocab=VOCAB, **keys):
    """vocab.txt and tokenizer_config.json as older programs wrote them."""
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocab), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64, **keys})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def edit(path, **keys):
    """Keys of a JSON file: set, or removed where None is given."""
    value = json.loads(path.read_text(encoding="utf-8")) | keys
    write_json(path, {k: v for k, v in value.items() if v is not None})


def save(folder, name="BertForSequenceClassification", seed=1, config=None, **keys):
    """A whole folder of a random model; `config`: keys of config.json set or removed afterwards. Returns the model."""
    model = make(name, seed, **keys)
    model.save_pretrained(folder)
    write_vocab(folder)
    if config:
        edit(folder / "config.json", **config)
    return model


def read_tensors(path):
    """{name: (dtype, shape, bytes)} of a safetensors file."""
    data = path.read_bytes()
    n, = struct.unpack("<Q", data[:8])
    return {name: (t["dtype"], t["shape"], data[8 + n:][slice(*t["data_offsets"])])
            for name, t in json.loads(data[8:8 + n]).items() if name != "__metadata__"}


def write_tensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def rename(folder, pattern, to):
    """Names of tensors, by re.sub."""
    path = folder / "model.safetensors"
    write_tensors(path, {re.sub(pattern, to, name): t for name, t in read_tensors(path).items()})


def shard(folder, n=3):
    """model.safetensors in n files and their index, as save_pretrained writes them. Returns the files' names."""
    tensors = read_tensors(folder / "model.safetensors")
    names = [f"model-{i + 1:05}-of-{n:05}.safetensors" for i in range(n)]
    place = {name: names[i % n] for i, name in enumerate(tensors)}
    for shard_name in names:
        write_tensors(folder / shard_name, {k: t for k, t in tensors.items() if place[k] == shard_name})
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())}, "weight_map": place})
    (folder / "model.safetensors").unlink()
    return names


def reference_of(name, source):
    """A reference that reads another folder than the imported one: SOURCE, or the function FOLDER → source."""
    def read(folder):
        import transformers
        at = source(folder) if callable(source) else source
        return getattr(transformers, name).from_pretrained(at, dtype="float32").eval(), transformers.AutoTokenizer.from_pretrained(folder)
    return read


def copy_beside(folder):
    """A copy of the folder as it is, for a reference, before it is changed."""
    to = pathlib.Path(f"{folder}.plain")
    shutil.copytree(folder, to)
    return to


def beside(folder):
    return pathlib.Path(f"{folder}.plain")
