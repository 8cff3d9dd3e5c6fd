"""Turn a CUDA source into C++ for the emulation.

Launches become calls, dynamic shared memory becomes a pointer.

rewrite_launches.py SOURCE DESTINATION
"""

import re
import sys
from pathlib import Path

DYNAMIC_SHARED = re.compile(
    r"extern __shared__ (?:__align__\(\d+\) |alignas\(\d+\) )?([\w:]+(?: \w+)?) (\w+)\[\];"
)


def start_of_callee(text: str, end: int) -> int:
    """Find where the kernel's name begins that ends, template arguments included, at `end`."""
    at = end
    while text[at - 1].isspace():
        at -= 1
    if text[at - 1] == ">":
        depth = 0
        while True:
            at -= 1
            depth += {">": 1, "<": -1}.get(text[at], 0)
            if depth == 0:
                break
    while text[at - 1].isalnum() or text[at - 1] in "_:":
        at -= 1
    return at


def end_of_arguments(text: str, opening: int) -> int:
    """Find the place behind the parenthesis that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
    raise SystemExit(f"a launch is not closed: {text[opening : opening + 60]!r}")


def rewritten(text: str) -> str:
    """Return the source with both rewritten."""
    text = DYNAMIC_SHARED.sub(
        r"\1* const \2 = static_cast<\1*>(::tempra::cuda::emulation::dynamic_shared_memory());",
        text,
    )
    while (opening := text.find("<<<")) >= 0:
        closing = text.index(">>>", opening)
        begin = start_of_callee(text, opening)
        end = end_of_arguments(text, text.index("(", closing))
        callee = text[begin:opening].strip()
        configuration = text[opening + 3 : closing]
        arguments = text[closing + 3 : end].lstrip()
        launch = f"::tempra::cuda::emulation::Launch({configuration})"
        call = f"[=](const auto&... given) {{ {callee}(given...); }}"
        given = f", {arguments[1:-1]}" if arguments[1:-1].strip() else ""
        text = f"{text[:begin]}{launch}.run({call}{given}){text[end:]}"
    return text


def main() -> None:
    """Rewrite the file that the first argument names into the second."""
    source, destination = (Path(argument) for argument in sys.argv[1:])
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text(f'#line 1 "{source}"\n' + rewritten(source.read_text()))


if __name__ == "__main__":
    main()
