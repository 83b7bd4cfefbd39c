"""What can go wrong, as types. Each message says what happened, where it is set, how to mend it.

RunnerError
├── ConfigError        the composed configuration breaks rules (all of them at once)
├── ServiceError       a service did not start, died for good, or its port is taken
├── DatabaseError      Postgres is too old, without pgvector, without rights, or refuses something
│   └── DatabaseAwayError   … does not answer: what is to be stored may be tried again
├── ModelError         weights are missing or not what they should be
├── ProviderError      an STT, TTS, LLM or embedding endpoint did not serve
└── CallError          a call could not be placed or came to nothing
"""

from dataclasses import dataclass


class RunnerError(Exception):
    """Root of the tree: printed as one sentence, exit status 1, no traceback."""


@dataclass(frozen=True)
class Problem:
    """One broken rule of the configuration.

    ``key`` is the dotted path to override, ``value`` what it holds (never a secret),
    ``allowed`` what it may hold, ``mend`` what to type.
    """

    key: str
    value: object
    allowed: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.key} is {self.value!r}; it must be {self.allowed}"
        return f"{line}. {self.mend}" if self.mend else line


class ConfigError(RunnerError):
    """The configuration breaks rules. Change the keys that it names."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"The configuration has {count}:\n{lines}")


class ServiceError(RunnerError):
    """A service did not get ready. Its message names the port or file, and the key."""


class DatabaseError(RunnerError):
    """The database cannot be used. Its message names the address and the mend."""


class DatabaseAwayError(DatabaseError):
    """The database does not answer now. What it was given was not stored; it may be later."""


class ModelError(RunnerError):
    """A model cannot be loaded. Its message names the package or file and the mend."""


class ProviderError(RunnerError):
    """An endpoint did not serve. Its message names the provider, the address and the reason."""


class CallError(RunnerError):
    """A call came to nothing. Its message says at which step and what to look at."""
