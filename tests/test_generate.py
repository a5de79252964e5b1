"""`tpsim generate`: from a checkpoint to text, in every world and at every number of ranks."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi_jobs import needs_mpi

from tpsim import Group, models, run
from tpsim.cli import main
from tpsim.comm import Mesh
from tpsim.comm.mpi import find_mpiexec
from tpsim.infer import Place, Sampler, Sampling
from tpsim.infer.text import Bytes, HubTokenizer, spoken, tokenizer_of
from tpsim.models import LanguageModel, hub
from tpsim.studies.generate import GenerateConfig, generate, read_checkpoint
from tpsim.train import AdamW, checkpoint

CONFIG = replace(models.get("tiny-llama"), layers=2)
SAMPLING = Sampling(0.9, top_k=40, top_p=0.95, seed=4)
WORDS = ("--temperature", "0.9", "--top-k", "40", "--top-p", "0.95", "--seed", "4", "--new", "20")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model as `tpsim train` saves it, on 2 ranks, and in the layout of Hugging Face."""
    folder = tmp_path_factory.mktemp("saved")

    def save(comm: Any) -> None:
        mesh = Mesh(comm, 2)
        model = LanguageModel(CONFIG, mesh.tp, rng=np.random.default_rng(6))
        for parameter in model.parameters().values():
            if parameter.data.ndim == 2:
                parameter.data *= 6
        checkpoint.save(folder / "run", model, AdamW(model), mesh, {})
        hub.write(model, folder / "hub", mesh.tp)

    run(save, 2)
    return {"run": folder / "run", "hub": folder / "hub"}


def expected(folder: Path) -> list[int]:
    """Compute the whole text anew for every token, on one device."""

    def on_one(comm: Any) -> list[int]:
        model = read_checkpoint(folder, Group(comm))
        sampler, text = Sampler(256, Group(comm), SAMPLING), list(b"So ")
        while len(text) < 23:
            logits = model.logits(np.array([text]))[:, -1]
            text.append(int(sampler.choose(logits, [Place(0, len(text))])[0]))
        return text[3:]

    tokens: list[int] = run(on_one, 1)[0]
    return tokens


def here(*arguments: str | Path) -> tuple[int, str, str]:
    """Run the command in this process."""
    out, err = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["tpsim", "generate", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        main()
    return int(stop.value.code or 0), out.getvalue(), err.getvalue()


def text_of(tokens: list[int]) -> str:
    return "So " + bytes(tokens).decode(errors="replace") + "\n"


@pytest.mark.parametrize("kind", ["run", "hub"])
@pytest.mark.parametrize("t", [1, 2, 4, 8])
def test_text_is_the_same_at_every_number_of_ranks_and_from_both_kinds_of_checkpoint(
    saved: dict[str, Path], kind: str, t: int
) -> None:
    code, out, err = here("--checkpoint", saved[kind], "--prompt", "So ", "--ranks", str(t), *WORDS)
    assert code == 0
    assert out == text_of(expected(saved["run"]))
    assert f"20 tokens on {t} rank" in err


@needs_mpi
def test_text_is_the_same_under_mpiexec(saved: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "tpsim", "generate", "--checkpoint", str(saved["run"])]
    job = subprocess.run(
        [find_mpiexec(), "-n", "2", *command, "--prompt", "So ", *WORDS],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert job.stdout.decode(errors="replace") == text_of(expected(saved["run"]))
    assert b"20 tokens on 2 ranks" in job.stderr


def test_gathering_logits_sends_more_for_the_same_tokens(saved: dict[str, Path]) -> None:
    config = GenerateConfig(checkpoint=str(saved["run"]), prompt=(83, 111), new=9)
    ways: list[Any] = ["sharded", "gathered"]
    sharded, gathered = (run(generate, 4, replace(config, way=way))[0] for way in ways)
    assert sharded.tokens == gathered.tokens
    assert sharded.sent - sharded.sent_by_sampling == gathered.sent - gathered.sent_by_sampling
    assert sharded.sent_by_sampling == 8 * 3 * 16  # 8 tokens; (t - 1) pairs in a ring
    assert gathered.sent_by_sampling == 8 * 3 * 64 * 4  # (t - 1) shares of 256 float32 logits
    assert sharded.collectives == gathered.collectives == 8 * (1 + 2 * 2 + 1)


def test_a_stop_token_ends_the_text(saved: dict[str, Path]) -> None:
    tokens = expected(saved["run"])
    _, out, _ = here("--checkpoint", saved["run"], "--prompt", "So ", *WORDS, "--stop", str(tokens[6]))
    first = tokens.index(tokens[6])
    assert out == text_of(tokens[: first + 1])


@pytest.mark.parametrize("many", [False, True])
def test_a_hub_checkpoints_own_tokens_end_the_text(
    saved: dict[str, Path], tmp_path: Path, many: bool
) -> None:
    tokens = expected(saved["run"])
    folder = shutil.copytree(saved["hub"], tmp_path / "hub")
    fields = json.loads((folder / "config.json").read_text())
    fields["eos_token_id"] = [tokens[9], tokens[6]] if many else tokens[6]
    (folder / "config.json").write_text(json.dumps(fields))
    first = min(map(tokens.index, (tokens[9], tokens[6]))) if many else tokens.index(tokens[6])
    assert here("--checkpoint", folder, "--prompt", "So ", *WORDS)[1] == text_of(tokens[: first + 1])
    assert here("--checkpoint", folder, "--prompt", "So ", *WORDS, "--stop", "-1")[1] == text_of(tokens)


def test_chunks_a_wide_window_and_a_wider_cache_change_nothing(saved: dict[str, Path]) -> None:
    options = ("--chunk", "2", "--window", "100", "--cache-dtype", "float64")
    assert here("--checkpoint", saved["run"], "--prompt", "So ", *WORDS, *options)[1] == text_of(
        expected(saved["run"])
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a", "--new", "129"], "pick another --new (up to 128)"),
        (["--prompt", "a", "--ranks", "3"], "not divisible by 3 ranks"),
        (["--prompt", "a", "--dtype", "int8"], "dtype 'int8' is not known"),
        (["--prompt", "a", "--top-p", "7"], "top_p 7.0 is no probability"),
        (["--prompt", "a", "--chunk", "0"], "chunks of 0"),
        (["--prompt", "a", "--checkpoint", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_mistakes_are_one_line(saved: dict[str, Path], options: list[str], message: str) -> None:
    code, out, err = here("--checkpoint", saved["run"], *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


# --- text ---------------------------------------------------------------------------------------------------


@given(st.text())
def test_bytes_come_back_as_the_text_and_never_half_a_character(text: str) -> None:
    tokenizer = Bytes()
    parts = list(spoken(tokenizer.stream(), tokenizer.encode(text)))
    assert "".join(parts) == text
    assert all("�" not in part or "�" in text for part in parts)


def test_bytes_that_are_no_text_are_marked() -> None:
    assert "".join(spoken(Bytes().stream(), [65, 255, 66, 300, 0xE2, 0x82])) == "A�B�"


class Library:
    """Stands for the library `tokenizers`: two tokens a character, the first half of it not text alone."""

    @staticmethod
    def from_file(path: str) -> "Library":
        if "broken" in path:
            raise RuntimeError("expected value at line 1")
        return Library()

    def encode(self, text: str) -> Any:
        return SimpleNamespace(ids=[half for letter in text for half in (ord(letter), -1)])

    def decode(self, tokens: list[int]) -> str:
        whole = "".join(map(chr, tokens[: len(tokens) // 2 * 2 : 2]))
        return whole + "�" * (len(tokens) % 2)


@pytest.fixture
def library() -> Iterator[None]:
    module = type("module", (), {"Tokenizer": Library})
    with patch.object(importlib, "import_module", lambda name: module):
        yield


@pytest.mark.usefixtures("library")
def test_a_checkpoints_own_tokenizer_speaks_whole_characters(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    tokenizer = tokenizer_of(tmp_path, 100)
    assert isinstance(tokenizer, HubTokenizer)
    tokens = tokenizer.encode("hé!")
    assert list(spoken(tokenizer.stream(), tokens)) == ["", "h", "", "é", "", "!", ""]
    assert isinstance(tokenizer_of(tmp_path, 256, as_bytes=True), Bytes)
    with pytest.raises(ValueError, match="can't be read \\(expected value"):
        HubTokenizer(tmp_path / "broken.json")


def test_without_the_library_a_tokenizer_file_is_refused_and_without_a_file_small_vocabularies(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="vocabulary of 100 is too small for bytes"):
        tokenizer_of(tmp_path, 100)
    (tmp_path / "tokenizer.json").write_text("{}")
    with (
        patch.dict(sys.modules, {"tokenizers": None}),
        pytest.raises(ValueError, match=r"pip install 'tpsim\[tokenizers\]'"),
    ):
        tokenizer_of(tmp_path, 100)
