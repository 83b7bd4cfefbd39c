"""The types of single keys, and what holds for every section."""

import re
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Len
from pydantic import AfterValidator, ConfigDict

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_LANGUAGE = re.compile(r"(?=.{2,35}$)[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*", re.ASCII)
EMBEDDING_DIMENSIONS = 384  # the specification's vector(384); sql/schema.sql holds the same number


def with_v1(url: str) -> str:
    """An OpenAI-shaped base URL with its ``/v1``, whether or not it was written with one."""
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("a URL that begins with http:// or https://")
    return url if url.endswith("/v1") else f"{url}/v1"


def ws_url(url: str) -> str:
    """A LiveKit address; http is accepted for ws, as LiveKit's own clients do."""
    url = url.rstrip("/").replace("http://", "ws://").replace("https://", "wss://")
    if not url.startswith(("ws://", "wss://")):
        raise ValueError("a URL that begins with ws:// or wss://")
    return url


def plain_url(url: str) -> str:
    """A base URL without its last slash, or nothing."""
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("a URL that begins with http:// or https://, or nothing")
    return url.rstrip("/")


def language_tag(tag: str) -> str:
    """A language as BCP 47 writes it, such as pt-BR, in small letters."""
    if not _LANGUAGE.fullmatch(tag):
        raise ValueError("a language such as de or pt-BR")
    return tag.lower()


def variable_name(name: str) -> str:
    """The name of an environment variable, or nothing. A key or password put there by mistake is
    most likely none."""
    if name and not _VARIABLE.fullmatch(name):
        raise ValueError(
            "the NAME of an environment variable; put the secret itself into that variable"
        )
    return name


PlainURL = Annotated[str, AfterValidator(plain_url)]
OpenAIBaseURL = Annotated[str, AfterValidator(with_v1)]
LiveKitURL = Annotated[str, AfterValidator(ws_url)]
Port = Annotated[int, Ge(1), Le(65535)]
Count = Annotated[int, Ge(1)]
Seconds = Annotated[float, Gt(0)]
Delay = Annotated[float, Ge(0)]
Name = Annotated[str, Len(1)]
Temperature = Annotated[float, Ge(0), Le(2)]
OptionalVariable = Annotated[str, AfterValidator(variable_name)]
Variable = Annotated[OptionalVariable, Len(1)]
Language = Annotated[str, AfterValidator(language_tag)]


class Strict:
    """Base of every section: an unknown key is a mistake, not a comment."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
