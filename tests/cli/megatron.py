"""Megatron-LM's indexed dataset, version 1, from its public definition (megatron/core/datasets/indexed_dataset.py), in Python alone:
  megatron.py write PREFIX CODE VOCAB_SIZE   a corpus of that dtype code, 40 documents of 3 to 7 sentences
  megatron.py flat PREFIX CODE VOCAB_SIZE    the same, one sentence a document
  megatron.py read PREFIX                    checks everything that Megatron's reader relies on; prints documents, sentences, tokens and
                                             then each sentence's ids, a line each, an empty line after each document
"""
import array
import struct
import sys

CODES = {1: "B", 2: "b", 3: "h", 4: "i", 5: "q", 8: "H"}  # DType: uint8, int8, int16, int32, int64, (6, 7: floats), uint16
MAGIC = b"MMIDIDX\x00\x00"


def write(prefix, code, vocab_size, flat):
    largest = {1: 255, 2: 127, 3: 32767}.get(code, vocab_size - 1)
    ids = array.array(CODES[code])
    lengths, pointers, documents = [], [], [0]
    for d in range(40):
        for s in range(3 + d % 5):
            pointers.append(len(ids) * ids.itemsize)
            lengths.append(4 + (d + s) % 9)
            ids.extend(5 + (d * 31 + s * 7 + i) % (min(largest, vocab_size - 1) - 4) for i in range(lengths[-1]))
            if flat:
                documents.append(len(lengths))
        if not flat:
            documents.append(len(lengths))
    with open(prefix + ".bin", "wb") as file:
        file.write(ids.tobytes())
    with open(prefix + ".idx", "wb") as file:
        file.write(MAGIC + struct.pack("<QB", 1, code) + struct.pack("<QQ", len(lengths), len(documents)))
        file.write(struct.pack(f"<{len(lengths)}i{len(pointers)}q{len(documents)}q", *lengths, *pointers, *documents))


def read(prefix):
    with open(prefix + ".idx", "rb") as file:
        index = file.read()
    assert index[:9] == MAGIC, "magic"
    version, code, n, marks = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1 and code in CODES, "version and dtype"
    assert len(index) == 34 + 12 * n + 8 * marks, "size of the index"
    lengths = struct.unpack_from(f"<{n}i", index, 34)
    pointers = struct.unpack_from(f"<{n}q", index, 34 + 4 * n)
    documents = struct.unpack_from(f"<{marks}q", index, 34 + 12 * n)
    assert documents[0] == 0 and documents[-1] == n and all(a < b for a, b in zip(documents, documents[1:])), "documents"
    ids = array.array(CODES[code])
    with open(prefix + ".bin", "rb") as file:
        ids.frombytes(file.read())
    assert len(ids) == sum(lengths), "size of the data"
    print(marks - 1, n, len(ids))
    for first, last in zip(documents, documents[1:]):
        for s in range(first, last):
            begin = pointers[s] // ids.itemsize
            print(*ids[begin:begin + lengths[s]])
        print()


if sys.argv[1] == "read":
    read(sys.argv[2])
else:
    write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[1] == "flat")
