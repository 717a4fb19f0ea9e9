"""What an answer has cost, in one line for people (`-v`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.report import PROGRAM, printable, tell


if TYPE_CHECKING:
    from copilot_broker.cli.asking.answering import Spent
    from copilot_broker.cli.catalogue import Model


__all__ = ["spent_words", "tell_spent"]


def tell_spent(spent: Spent, model: Model) -> None:
    """Say on stderr what an answer of that model has cost."""
    tell(f"{PROGRAM}: {printable(spent_words(spent, model))}\n")


def spent_words(spent: Spent, model: Model) -> str:
    """Return it: `gpt-4.1: 12 tokens in (3 cached), 45 out, 1.2 s, …`."""
    usage = spent.usage
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    said = [
        f"{_count(usage.prompt)} tokens in{cached}",
        f"{_count(usage.completion)} out",
        f"{spent.seconds:.1f} s",
        f"account {spent.account}",
    ]
    if model.multiplier is not None:
        said.append(f"premium {model.multiplier:g}")
    return f"{spent.model}: {', '.join(said)}"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
