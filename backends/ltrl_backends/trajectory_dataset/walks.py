"""Walk backends `random` and `llm`: who chooses the next page."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar, Literal

from ltrl.dataset.chat import Chat, ChatOptions, json_reply
from ltrl.dataset.kinds import Candidate, WalkSection
from ltrl.dataset.page import Page, cut

__all__ = ["ChosenWalk", "RandomWalk"]


class RandomWalk:
    """Any candidate, each as likely."""

    api: ClassVar[int] = 1
    concurrency: int | None = None

    class Options(WalkSection):
        """Options of the `random` walk."""

        backend: Literal["random"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def choose(self, path: Sequence[Page], candidates: Sequence[Candidate], random: Random) -> int:
        """A random one."""
        return random.randrange(len(candidates))


class ChosenWalk:
    """A language model chooses, from the beginning of the page and of each candidate."""

    api: ClassVar[int] = 1

    class Options(WalkSection):
        """Options of the `llm` walk."""

        backend: Literal["llm"]
        """This backend."""
        model: ChatOptions
        """The endpoint."""

    def __init__(self, options: Options) -> None:
        self.concurrency: int | None = options.model.concurrency
        self._chat = Chat(options.model)
        self.close = self._chat.close

    def choose(self, path: Sequence[Page], candidates: Sequence[Candidate], random: Random) -> int:
        """The candidate with the number that the model says; the first where it says none in several tries."""
        here = path[-1]
        offered = "\n".join(
            f"{number}. {c.page.title} (linked as `{c.anchor}`): {cut(c.page.text, 200)}"
            for number, c in enumerate(candidates, 1)
        )
        asked = (
            "You build a chain of pages from which a difficult question will be made. Choose the page that comes next: "
            "one with a specific, informative relation to the current one, rather than a general topic.\n\n"
            f"Current page: {here.title}\n{cut(here.text, 600)}\n\nPages it links to:\n{offered}\n\n"
            'Reply with JSON: {"choice": NUMBER}'
        )

        def chosen(reply: str) -> int:
            number = json_reply(reply).get("choice")
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(candidates):
                raise ValueError(f"`choice` is not a number from 1 to {len(candidates)}")
            return number - 1

        found = self._chat.ask([{"role": "user", "content": asked}], chosen, seed=random.getrandbits(31))
        return 0 if found is None else found
