"""A conversation under way, and what each line of the person's does to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from copilot_broker.cli.asking.answering import print_answer, warn_of_ending
from copilot_broker.cli.asking.attachments import TextFile, check_seen, read_attachment
from copilot_broker.cli.asking.choosing import named, offered
from copilot_broker.cli.asking.question import question_of
from copilot_broker.cli.asking.request import Image, write_request
from copilot_broker.cli.asking.spent import tell_spent
from copilot_broker.cli.display import say, wrapped
from copilot_broker.cli.output import Text
from copilot_broker.cli.report import PROGRAM, Refusal, note, printable, words
from copilot_broker.cli.talk.commands import help_lines, parse
from copilot_broker.cli.talk.conversation import Conversation, Exchange, room_of
from copilot_broker.cli.talk.saved import save
from copilot_broker.cli.talk.spending import Spending
from copilot_broker.errors import CopilotBrokerError, ErrorClass


if TYPE_CHECKING:
    from copilot_broker import Client
    from copilot_broker.cli.asking.answering import Spent
    from copilot_broker.cli.asking.request import Manner, Request, Turn
    from copilot_broker.cli.catalogue import Model


__all__ = ["Talk"]


class Talk:
    """Takes lines. Raises Refusal and CopilotBrokerError, after which it can go on."""

    def __init__(
        self,
        client: Client,
        account: str | None,
        models: list[Model],
        model: Model,
        manner: Manner,
        *,
        is_verbose: bool,
    ) -> None:
        self.model = model
        self._client = client
        self._account = account
        self._models = models
        self._manner = manner
        self._is_verbose = is_verbose
        self._conversation = Conversation()
        self._spending = Spending()
        self._files: list[Image | TextFile] = []
        self._last: Turn | None = None
        self._left_out = 0
        self._commands = {
            "help": self._help,
            "model": self._choose,
            "system": self._system,
            "attach": self._attach,
            "retry": self._retry,
            "new": self._new,
            "save": self._save,
            "usage": self._usage,
        }

    @property
    def images(self) -> list[Image]:
        """Pictures that go with the next question."""
        return [file for file in self._files if isinstance(file, Image)]

    def model_names(self) -> list[str]:
        """Return the models to choose from."""
        return [model.id for model in self._models if model.is_usable and model.in_picker]

    def attach(self, file: Image | TextFile) -> None:
        """Have a file go with the next question."""
        self._files.append(file)

    def take(self, line: str) -> bool:
        """Do what a line says; return whether the person wants to leave."""
        if not line.strip():
            return False
        command = parse(line)
        if command is None:
            self._ask(question_of(line.strip(), self._files))
            return False
        name, rest = command
        if name in {"exit", "quit"}:
            return True
        do = self._commands.get(name)
        if do is None:
            raise _misused(f"there is no /{name}")
        do(rest)
        return False

    # -- asking -------------------------------------------------------------------------------

    def _ask(self, question: Turn) -> None:
        """Have it answered; what came of an answer that was stopped belongs to it all the same."""
        check_seen(question.images, self.model)
        manner = self._manner
        room = room_of(self.model, manner.max_tokens)
        fitting = self._conversation.fit(question, room, manner.system)
        request = write_request(self.model, self._seen(fitting.turns), manner)
        self._tell_left_out(fitting.left_out, room)
        self._last, self._files = question, []
        heard: list[str] = []
        spent: Spent | None = None
        try:
            spent = self._print(request, heard)
        except KeyboardInterrupt:
            if not heard:
                say()  # ends the line in which the terminal shows ^C
            note("stopped; to have it anew: /retry")
        except CopilotBrokerError as error:
            if heard:
                self._spending.add(None, self.model)
            say("\n".join(words(Refusal.of(error))))
            note("the question is not forgotten; to ask it again: /retry")
            return
        self._spending.add(spent, self.model)
        if spent is not None:
            self._conversation.learn(fitting, spent.usage.prompt)
            warn_of_ending(spent, "complete")
            if self._is_verbose:
                tell_spent(spent, self.model)
        if text := "".join(heard):
            self._conversation.exchanges.append(Exchange(question, text, self.model.id))
        say()

    def _print(self, request: Request, heard: list[str]) -> Spent:
        with Text() as out:

            def write(text: str) -> None:
                heard.append(text)
                out.write(text)

            return print_answer(self._client, request, self._account, write)

    def _seen(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """Leave out earlier pictures where this model takes none."""
        if self.model.vision is not None:
            return turns
        return tuple(replace(turn, images=()) for turn in turns)

    def _tell_left_out(self, left_out: int, room: int | None) -> None:
        if left_out > self._left_out:
            count = "question" if left_out == 1 else f"{left_out} questions"
            note(
                f"the first {count} and what was answered stay behind: {self.model.id} takes"
                f" {room:,} tokens; to begin anew: /new"
            )
        self._left_out = left_out

    # -- commands -----------------------------------------------------------------------------

    def _help(self, _rest: str) -> None:
        say("\n".join(help_lines()))

    def _choose(self, name: str) -> None:
        if not name:
            say(wrapped(f"{self.model.id} answers. Others: {', '.join(self.model_names())}"))
            return
        model = named(name, self._models)
        if not model.is_usable or model not in self._models:
            self._models = offered(self._account)  # its terms may have been accepted meanwhile
            model = named(name, self._models)
        if model not in self._models:
            raise _misused(f"there is no model {name}", f"see which there are: {PROGRAM} models")
        if not model.is_enabled:
            hint = f"accept its terms: {PROGRAM} models enable {name}"
            raise _misused(f"{name} has to be accepted first", hint)
        if not model.is_usable:
            raise _misused(f"{name} does not chat", f"see which do: {PROGRAM} models")
        self.model = model
        say(f"{printable(model.id)} answers from now on.")

    def _system(self, text: str) -> None:
        if text:
            self._manner = replace(self._manner, system=None if text == "-" else text)
        system = self._manner.system
        say("No system message." if system is None else wrapped(f"System message: {system}"))

    def _attach(self, name: str) -> None:
        if not name:
            raise _misused("/attach takes a file's name")
        if name == "-":
            self._files = []
            say("Nothing goes with the next question.")
            return
        file = read_attachment(name)
        if isinstance(file, Image):
            check_seen([*self.images, file], self.model)
        self.attach(file)
        say(f"{printable(name)} goes with the next question.")

    def _retry(self, _rest: str) -> None:
        if self._last is None:
            raise _misused("there is no question yet")
        exchanges = self._conversation.exchanges
        if exchanges and exchanges[-1].question is self._last:
            exchanges.pop()
        self._ask(self._last)

    def _new(self, _rest: str) -> None:
        self._conversation = Conversation()
        self._last, self._left_out, self._files = None, 0, []
        say("A new conversation.")

    def _save(self, name: str) -> None:
        if not name:
            raise _misused("/save takes a file's name")
        if not self._conversation.exchanges:
            raise _misused("there is nothing to be saved yet")
        try:
            path = save(name, self._conversation.exchanges, self._manner.system)
        except OSError as error:
            raise _misused(f"{name} cannot be written: {error.strerror}") from None
        say(f"Saved in {printable(path)}.")

    def _usage(self, _rest: str) -> None:
        say(wrapped(self._spending.words()))
        say(f"What is left of your plan: {PROGRAM} quota")


def _misused(message: str, hint: str = "see what there is: /help") -> Refusal:
    return Refusal(ErrorClass.USAGE, "usage", message, hint)
