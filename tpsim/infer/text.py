"""From text to tokens and back: bytes, or a checkpoint's own tokenizer.json."""

from __future__ import annotations

import codecs
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

TOKENIZER = "tokenizer.json"


class Tokenizer(Protocol):
    """What text is cut into."""

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens."""

    def stream(self) -> Stream:
        """Return what puts new tokens into text as they come."""


class Stream(Protocol):
    """Text in the making: a token may be a part of a character only."""

    def text(self, token: int) -> str:
        """Return the text that is sure now, and was not before."""

    def rest(self) -> str:
        """Return what is left when no more tokens come."""


class Bytes:
    """Each byte of UTF-8 is a token: what `tpsim train` learns."""

    def encode(self, text: str) -> list[int]:
        """As `Tokenizer.encode`."""
        return list(text.encode())

    def stream(self) -> Stream:
        """As `Tokenizer.stream`."""
        return _ByteStream()


class _ByteStream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, token: int) -> str:
        return self._decoder.decode(bytes([token]) if token < 256 else b"")

    def rest(self) -> str:
        return self._decoder.decode(b"", final=True)


class HubTokenizer:
    """The tokenizer of a checkpoint in the layout of Hugging Face.

    Parameters
    ----------
    path : Path
        Of its tokenizer.json.

    Raises
    ------
    ValueError
        If it can't be read, or the library that reads it is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            library: Any = importlib.import_module("tokenizers")
        except ImportError:
            raise ValueError(
                f"{path}: needs the library tokenizers, which is not installed; pip install "
                "'tpsim[tokenizers]', or pass --bytes if the model reads bytes"
            ) from None
        try:
            self._library: Any = library.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"{path}: can't be read ({error}); copy it again") from None

    def encode(self, text: str) -> list[int]:
        """As `Tokenizer.encode`."""
        return list(self._library.encode(text).ids)

    def stream(self) -> Stream:
        """As `Tokenizer.stream`."""
        return _HubStream(self._library)


class _HubStream:
    """Decodes all so far anew, since a token's text depends on those before it."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._tokens: list[int] = []
        self._said = ""

    def text(self, token: int) -> str:
        self._tokens.append(token)
        whole: str = self._library.decode(self._tokens)
        if whole.endswith("�"):  # in the middle of a character
            return ""
        return self._grown_to(whole)

    def rest(self) -> str:
        return self._grown_to(self._library.decode(self._tokens))

    def _grown_to(self, whole: str) -> str:
        new, self._said = whole[len(self._said) :], whole
        return new


def tokenizer_of(folder: Path, vocab: int, *, as_bytes: bool = False) -> Tokenizer:
    """Return the tokenizer of a checkpoint: its own, or bytes if it has none and at least 256 words.

    Raises
    ------
    ValueError
        If it has neither.
    """
    if (folder / TOKENIZER).is_file() and not as_bytes:
        return HubTokenizer(folder / TOKENIZER)
    if vocab < 256:
        raise ValueError(
            f"{folder}: has no {TOKENIZER}, and a vocabulary of {vocab} is too small for bytes; put its "
            f"{TOKENIZER} there"
        )
    return Bytes()


def spoken(stream: Stream, tokens: Sequence[int]) -> Iterator[str]:
    """Yield the text of tokens, bit by bit."""
    for token in tokens:
        yield stream.text(token)
    yield stream.rest()
