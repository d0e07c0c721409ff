"""A terminal's screen as an SVG: reads what `tmux capture-pane -e -p` prints, colours and all.
  screen_svg.py COLUMNS TITLE <CAPTURE >PICTURE
"""
import html
import re
import sys

WIDTH, HEIGHT, TOP, LEFT = 8.4, 18, 40, 16  # of a cell; where the first one is
COLOURS = ["#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"]
BACKGROUND, TEXT, DIM = "#1e222a", "#d8dee9", "#808998"


def styled(line):
    """(style, text) of the runs of a line; a style is a set of "bold", "dim" and a colour's number."""
    style = set()
    for piece in re.split(r"(\x1b\[[\d;]*m)", line):
        codes = re.fullmatch(r"\x1b\[([\d;]*)m", piece)
        if not codes:
            if piece:
                yield frozenset(style), piece
            continue
        for code in (int(c or 0) for c in codes[1].split(";")):
            if code == 0:
                style.clear()
            elif code in (1, 2):
                style.add("bold" if code == 1 else "dim")
            elif code == 22:
                style -= {"bold", "dim"}
            elif 30 <= code <= 39 or 90 <= code <= 97:
                style = {s for s in style if isinstance(s, str)} | ({code % 10} if code != 39 else set())


def run(row, column, style, text):
    """One run, at its cells whatever the font; blanks are not drawn."""
    colour = next((COLOURS[s] for s in style if isinstance(s, int)), DIM if "dim" in style else TEXT)
    left = len(text) - len(text.lstrip())
    text = text.strip()
    if not text:
        return ""
    weight = ' font-weight="bold"' if "bold" in style else ""
    return (f'<text x="{LEFT + (column + left) * WIDTH:.1f}" y="{TOP + row * HEIGHT + 13}" fill="{colour}"{weight} '
            f'textLength="{len(text) * WIDTH:.1f}">{html.escape(text, quote=False)}</text>\n')


def main():
    columns, title = int(sys.argv[1]), sys.argv[2]
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width, height = columns * WIDTH + 2 * LEFT, TOP + len(lines) * HEIGHT + 14
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}" '
          f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">\n'
          f"<title>{html.escape(title)}</title>\n"
          f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>')
    for x, colour in ((20, COLOURS[1]), (40, COLOURS[3]), (60, COLOURS[2])):
        print(f'<circle cx="{x}" cy="18" r="6" fill="{colour}"/>')
    for row, line in enumerate(lines):
        column = 0
        for style, text in styled(line):
            print(run(row, column, style, text), end="")
            column += len(text)
    print("</svg>")


main()
