"""A few conversations in two formats, for tests that prepare them and train on them."""

ALPACA = [
    {"instruction": f"Say {word}.", "input": "", "output": word * 2}
    for word in ("red", "green", "blue", "one", "two", "three", "north", "south")
]
QUESTIONS = "".join(f"Q: What is {n} and {n}?\nA: {2 * n}\n\n" for n in range(1, 13))
