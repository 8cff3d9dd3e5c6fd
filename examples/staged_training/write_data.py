"""Writes the texts that config.yaml reads into this folder or the one given: numbers and sums.

python write_data.py [FOLDER]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """Return a number below 1000 in words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{ONES[number % 10]}" if number % 10 else "")
    rest = f" {in_words(number % 100)}" if number % 100 else ""
    return f"{ONES[number // 100]} hundred{rest}"


def main(folder: Path) -> None:
    """Write numbers/, sums.txt and questions.jsonl."""
    choose = random.Random(0)
    (folder / "numbers").mkdir(parents=True, exist_ok=True)
    for page in range(200):
        first = choose.randrange(0, 990)
        lines = [f"{n} is {in_words(n)}.\n" for n in range(first, min(first + 40, 1000))]
        (folder / f"numbers/{page:03d}.txt").write_text("".join(lines))
    with (folder / "sums.txt").open("w") as file:
        for _ in range(4000):
            one, other = choose.randrange(100), choose.randrange(100)
            file.write(f"{one} + {other} = {one + other}\n")
    with (folder / "questions.jsonl").open("w") as file:
        for _ in range(2000):
            count = choose.randrange(2, 6)  # the more numbers, the longer and harder
            numbers = [choose.randrange(10 if count > 2 else 100) for _ in range(count)]
            record = {
                "instruction": "Add the numbers.",
                "input": " and ".join(map(str, numbers)),
                "output": str(sum(numbers)),
            }
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
