"""Reads the man pages in docs/ for the checks that hold them against the programs."""
import dataclasses
import re
import subprocess
import sys


@dataclasses.dataclass
class Entry:
    """What a .TP begins. names: the bold words of its heading; under: the key that the text above says it stands under, or ''."""
    section: str
    under: str
    names: list
    text: str


def plain(roff):
    """The text of a page without fonts, quotes and escapes."""
    text = re.sub(r"^\.(?:B|I|BR|RB|BI|IB|IR|RI) +", "", roff, flags=re.M).replace('"', "")
    return re.sub(r"\\([(]..|.)", lambda m: {"-": "-", " ": " ", "e": "\\"}.get(m[1], ""), text)


def bold(line):
    """Bold words of a line as `.BR keep " (3), " keep_every " (0)"`."""
    macro, _, rest = line.partition(" ")
    words = re.findall(r'"([^"]*)"|(\S+)', rest)
    words = [plain(quoted or word) for quoted, word in words]
    return words[::2] if macro in (".BR", ".BI") else [" ".join(words)] if macro == ".B" else []


def entries(path):
    """Every entry of a page, in its order."""
    found, section, under = [], "", ""
    for block in re.split(r"^(?=\.(?:SH|PP|TP)\b)", path.read_text(), flags=re.M):
        kind, _, body = block.partition("\n")
        if kind.startswith(".SH"):
            section, under = plain(kind[4:]).strip(), ""
        if kind.startswith(".TP"):
            heading, _, text = body.partition("\n")
            found.append(Entry(section, under, bold(heading), plain(block)))
        elif match := re.search(r"\b[Uu]nder\n\.BR? (\w+)", body):
            under = match[1]
    return found


def help_of(*words):
    """The text of --help, which must be one."""
    out = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=60)
    if out.returncode != 0 or not out.stdout:
        sys.exit(f"{' '.join(map(str, words))} --help: exit code {out.returncode}, {len(out.stdout)} characters")
    return out.stdout
