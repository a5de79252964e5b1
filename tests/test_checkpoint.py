"""Checkpoints: bit for bit onto any number of ranks, whole at every moment, and refused when damaged."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi_jobs import mpiexec, needs_mpi

from tpsim import models, nn, run
from tpsim.comm.mesh import Mesh
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.lazy import Stored
from tpsim.train import checkpoint, shards
from tpsim.train.optimizer import SGD, AdamW
from tpsim.train.reshard import reshard

Array = Any
Whole = dict[str, dict[str, Array]]

GPT = models.gpt("gpt", 1, 16, 8, vocab=21, max_seq=8)
LLAMA = models.llama("llama", 1, 16, 8, kv_heads=2, ffn=24, vocab=21, max_seq=8)
CONFIGS = {
    "gpt-tied": GPT,
    "llama-few-kv-heads": LLAMA,
    "llama-tied": replace(LLAMA, tied=True, qk_norm=True),
}
META = {"seed": 3, "rng": {"state": 2**127 + 1, "inc": 5}, "loss": 0.1 + 0.2}


def whole_states(config: ModelConfig, seed: int = 0) -> Whole:
    """Random numbers for every parameter and its two moments."""
    rng = np.random.default_rng(seed)
    shapes = {name: one.whole_shape for name, one in LanguageModel(config).parameters().items()}
    return {
        kind: {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for kind in ("parameter", "m", "v")
    }


def build(config: ModelConfig, mesh: Mesh, sp: bool = False) -> tuple[LanguageModel, AdamW]:
    model = LanguageModel(config, mesh.tp, sequence_parallel=sp)
    return model, AdamW(model)


def save_on(
    comm: Any, folder: Path, config: ModelConfig, tp: int, sp: bool, step: int, seed: int = 0
) -> None:
    mesh = Mesh(comm, tp)
    model, optimizer = build(config, mesh, sp)
    whole = whole_states(config, seed)
    model.load(whole["parameter"])
    parameters = model.parameters()
    optimizer.load_state(
        {kind: {n: parameters[n].take(array) for n, array in whole[kind].items()} for kind in ("m", "v")}
    )
    optimizer.steps = step
    checkpoint.save(folder, model, optimizer, mesh, META)


def load_on(comm: Any, folder: Path, config: ModelConfig, tp: int, sp: bool = False) -> tuple[Any, int, Any]:
    """Everything local with its place; the steps; the meta."""
    mesh = Mesh(comm, tp)
    model, optimizer = build(config, mesh, sp)
    meta = checkpoint.load(folder, model, optimizer, mesh)
    parameters = model.parameters()
    local = {"parameter": {n: p.data for n, p in parameters.items()}, **optimizer.state()}
    placed = {
        kind: {n: (parameters[n].whole_shape, parameters[n].placed(array)) for n, array in of_kind.items()}
        for kind, of_kind in local.items()
    }
    return placed, optimizer.steps, meta


def save(folder: Path, config: ModelConfig = GPT, ranks: int = 2, **options: Any) -> None:
    options = {"tp": ranks, "sp": False, "step": 7, **options}
    run(save_on, ranks, folder, config, *options.values())


def loaded(
    folder: Path, config: ModelConfig = GPT, ranks: int = 1, tp: int | None = None, sp: bool = False
) -> Whole:
    """What the ranks have after loading, put together."""
    found = run(load_on, ranks, folder, config, tp or ranks, sp)
    assert all(meta == META for _, _, meta in found)
    return {
        kind: {
            name: nn.parameter.put_together(shape, [placed[kind][name][1] for placed, _, _ in found])
            for name, (shape, _) in of_kind.items()
        }
        for kind, of_kind in found[0][0].items()
    }


def assert_same(found: Whole, expected: Whole) -> None:
    assert found.keys() == expected.keys()
    for kind, of_kind in expected.items():
        assert found[kind].keys() == of_kind.keys()
        for name, array in of_kind.items():
            np.testing.assert_array_equal(found[kind][name], array, err_msg=f"{kind} {name}")
            assert found[kind][name].dtype == array.dtype


@pytest.mark.parametrize("saved_at", [1, 2, 4, 8])
@pytest.mark.parametrize("name", CONFIGS)
def test_saved_at_one_number_of_ranks_loads_at_every_other(name: str, saved_at: int, tmp_path: Path) -> None:
    config = CONFIGS[name]
    save(tmp_path, config, saved_at, sp=saved_at == 4)
    for ranks in (1, 2, 4, 8):
        assert_same(loaded(tmp_path, config, ranks, sp=ranks == 2), whole_states(config))


def test_a_tp_x_dp_mesh_saves_once_and_loads_anywhere(tmp_path: Path) -> None:
    save(tmp_path, LLAMA, 4, tp=2)
    assert sorted(path.name for path in (tmp_path / "step-000007").iterdir()) == [
        "manifest.json",
        "rank-00000.safetensors",
        "rank-00001.safetensors",
    ]
    for ranks, tp in ((1, 1), (4, 2), (4, 1), (8, 4)):
        assert_same(loaded(tmp_path, LLAMA, ranks, tp), whole_states(LLAMA))


def test_padding_is_zero_after_loading(tmp_path: Path) -> None:
    save(tmp_path, GPT, 1)

    def main(comm: Any) -> Array:
        mesh = Mesh(comm, 4)
        model, optimizer = build(GPT, mesh)
        checkpoint.load(tmp_path, model, optimizer, mesh)
        return model.embedding.weight.data

    rows = np.concatenate(run(main, 4))
    assert rows.shape == (24, 16)
    assert not rows[21:].any()


def test_a_rank_reads_only_its_own_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, GPT, 4)
    read: list[int] = []
    plain = Stored._read

    def counted(self: Stored, where: tuple[slice, ...]) -> Array:
        part = plain(self, where)
        read.append(part.nbytes)
        return part

    monkeypatch.setattr(Stored, "_read", counted)

    def main(comm: Any) -> int:
        mesh = Mesh(comm, 2)
        model, optimizer = build(GPT, mesh)
        checkpoint.load(tmp_path, model, optimizer, mesh)
        padding = 16 * (22 - 21) * 4 if mesh.tp.rank == 1 else 0
        own = sum(parameter.data.nbytes for parameter in model.parameters().values())
        return 3 * (own - padding)

    expected = run(main, 2)
    assert sum(read) == sum(expected)


def test_no_entry_is_written_twice(tmp_path: Path) -> None:
    """Replicas (norms, biases, shared kv heads) have one owner."""
    save(tmp_path, LLAMA, 8)
    folder = tmp_path / "step-000007"
    tensors = shards.Shards(folder, [path.name for path in sorted(folder.glob("*.safetensors"))])
    for name, whole in tensors.of("parameter").items():
        sizes = [np.prod([stop - start for start, stop in place]) for place, _ in whole._tiles]
        assert sum(sizes) == np.prod(whole.shape), name


def test_bfloat16_with_masters_comes_back_bit_for_bit(tmp_path: Path) -> None:
    def main(comm: Any, saving: bool) -> Any:
        mesh = Mesh(comm, comm.size)
        model = LanguageModel(LLAMA, mesh.tp, dtype="bfloat16")
        optimizer = AdamW(model)
        if saving:
            rng = np.random.default_rng(1)
            for name, parameter in model.parameters().items():
                drawn = rng.standard_normal(parameter.whole_shape)
                optimizer.state()["master"][name][...] = parameter.take(drawn)
            checkpoint.save(tmp_path, model, optimizer, mesh, META)
        else:
            checkpoint.load(tmp_path, model, optimizer, mesh)
        masters = optimizer.state()["master"]
        return [(p, p.data, masters[name]) for name, p in model.parameters().items()]

    before, after = run(main, 2, True), run(main, 4, False)
    for ours, theirs in zip(zip(*before, strict=True), zip(*after, strict=True), strict=True):
        for which in (1, 2):
            whole = [nn.assemble([(one[0], one[which]) for one in side]) for side in (ours, theirs)]
            assert whole[0].dtype == whole[1].dtype
            np.testing.assert_array_equal(whole[0], whole[1])


# --- killed while saving ------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def killing(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, call: int) -> None:
    """Let the n-th call of a function be the process's last."""
    plain, calls = getattr(where, name), [0]

    def deadly(*inputs: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] >= call:
            raise Killed
        return plain(*inputs, **named)

    monkeypatch.setattr(where, name, deadly)


@pytest.mark.parametrize("again", [False, True], ids=["next", "again"])
@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [
        (shards, "save_file", 2),
        (os, "fsync", 5),
        (checkpoint, "write_manifest", 1),
        (os, "replace", 3),
        (shutil, "rmtree", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(
    where: Any, name: str, calls: int, again: bool, tmp_path: Path
) -> None:
    step = 3 if again else 4
    for call in range(1, calls + 1):
        run_folder = tmp_path / str(call)
        for earlier in (2, 3):
            save(run_folder, step=earlier, seed=earlier)
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, where, name, call)
            with contextlib.suppress(Killed):
                save(run_folder, step=step, seed=9)
        found = loaded(run_folder)
        kinds = [whole_states(GPT, seed) for seed in (3, 9)]
        assert any(np.array_equal(found["m"]["norm.bias"], kind["m"]["norm.bias"]) for kind in kinds)
        assert_same(
            found, next(k for k in kinds if np.array_equal(found["m"]["norm.bias"], k["m"]["norm.bias"]))
        )
        save(run_folder, step=step, seed=10)  # goes on as if nothing had been
        assert_same(loaded(run_folder), whole_states(GPT, 10))
        assert not [path for path in run_folder.iterdir() if path.suffix in (".tmp", ".old")]


def test_sigkill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_checkpoint as here\n"
        "from pathlib import Path\n"
        "for step in range(1, 100_000):\n"
        f"    here.save(Path({str(tmp_path / 'run')!r}), step=step, seed=step % 7)\n"
        "    print(step, flush=True)\n"
    )
    for delay in (0.0, 0.013, 0.029):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        job = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert job.stdout is not None
        for _ in range(3):
            job.stdout.readline()
        time.sleep(delay)
        job.kill()
        told = [int(line) for line in job.communicate()[0].split()]
        step = int(checkpoint.latest(tmp_path / "run").name.split("-")[1].removesuffix(".old"))
        assert step >= max([3, *told])
        assert_same(loaded(tmp_path / "run"), whole_states(GPT, step % 7))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 100):
        save(tmp_path, step=step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000010", "step-000100"]
    assert checkpoint.latest(tmp_path).name == "step-000100"


def test_a_run_that_goes_back_replaces_what_came_later(tmp_path: Path) -> None:
    for step in (8, 9, 5):
        save(tmp_path, step=step, seed=step)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]
    assert_same(loaded(tmp_path), whole_states(GPT, 5))


# --- refused ------------------------------------------------------------------------------------------------


def cut_short(folder: Path) -> None:
    file = folder / "rank-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def flip_a_bit(folder: Path) -> None:
    file = folder / "rank-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def put_foreign(folder: Path) -> None:
    """A safetensors file of somebody else's, with a manifest that fits it."""
    file = folder / "rank-00001.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    restamp(folder)


def put_text(folder: Path) -> None:
    (folder / "rank-00001.safetensors").write_text("This is no tensor.")
    restamp(folder)


def forget_a_shard(folder: Path) -> None:
    (folder / "rank-00001.safetensors").unlink()
    restamp(folder)


def restamp(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {
        file.name: {"bytes": file.stat().st_size, "sha256": shards.digest(file)}
        for file in sorted(folder.glob("*.safetensors"))
    }
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": shards._stamp(manifest)}))


def another_step(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    assert '"step": 7' in text
    (folder / "manifest.json").write_text(text.replace('"step": 7', '"step": 8'))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (cut_short, r"rank-00001.safetensors: \d+ bytes, and \d+ were saved.*; copy it again"),
    "flipped bit": (
        flip_a_bit,
        "rank-00001.safetensors: its checksum is not the manifest's.*; copy it again",
    ),
    "foreign": (put_foreign, "rank-00001.safetensors: does not say which tensors.*; take a file that tpsim"),
    "text": (put_text, "rank-00001.safetensors: not a whole safetensors file.*; copy it again"),
    "shard missing": (
        lambda folder: (folder / "rank-00001.safetensors").unlink(),
        "rank-00001.safetensors: missing, and the manifest lists it; copy it",
    ),
    "shard forgotten": (forget_a_shard, "entries are in none of the files; copy the folder again"),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "step-000007: no checkpoint, for it has no manifest.json; pass a folder that tpsim saved",
    ),
    "half a manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"format": "tps'),
        "manifest.json: not JSON .*; copy it again",
    ),
    "foreign manifest": (
        lambda folder: (folder / "manifest.json").write_text("{}"),
        "manifest.json: not the manifest of a tpsim checkpoint 1; pass a folder",
    ),
    "changed manifest": (another_step, "manifest.json: its own checksum does not fit.*; copy it again"),
    "no folder": (shutil.rmtree, "holds no finished checkpoint, step-…; pass a folder where"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name_on_every_rank(damage: str, tmp_path: Path) -> None:
    save(tmp_path)
    harm, complaint = DAMAGE[damage]
    harm(tmp_path / "step-000007")

    def main(comm: Any) -> None:
        mesh = Mesh(comm, 2)
        model, optimizer = build(GPT, mesh)
        before = {name: parameter.data.copy() for name, parameter in model.parameters().items()}
        with pytest.raises(ValueError, match=complaint):
            checkpoint.load(tmp_path, model, optimizer, mesh)
        for name, parameter in model.parameters().items():
            np.testing.assert_array_equal(parameter.data, before[name])

    run(main, 4)
    with pytest.raises(ValueError, match=complaint):
        reshard(tmp_path, tmp_path / "out", 1)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder; pass one where tpsim saved"):
        loaded(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (LLAMA, "step-000007: another model's checkpoint, with .*norm layer .here rms.*; build the model"),
        (replace(GPT, layers=2), r"another model's checkpoint, with layers 1 \(here 2\); build the model"),
    ],
)
def test_another_models_checkpoint_is_refused(other: ModelConfig, complaint: str, tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        loaded(tmp_path, other)


def test_another_optimizer_or_dtype_is_refused(tmp_path: Path) -> None:
    save(tmp_path)

    def main(comm: Any, dtype: str, make: Callable[[Any], Any]) -> None:
        mesh = Mesh(comm, comm.size)
        model = LanguageModel(GPT, mesh.tp, dtype=dtype)
        checkpoint.load(tmp_path, model, make(model), mesh)

    with pytest.raises(
        ValueError, match=r"holds the optimizer's \['m', 'v'\], and this optimizer keeps \[\]; take"
    ):
        run(main, 2, "float32", SGD)
    with pytest.raises(
        ValueError, match='is float32, and the model\'s float64; build the model with dtype="float32"'
    ):
        run(main, 2, "float64", AdamW)


def test_a_layer_that_is_no_language_model_has_checkpoints_too(tmp_path: Path) -> None:
    def main(comm: Any, seed: int) -> Array:
        mesh = Mesh(comm, comm.size)
        layer = nn.MLP(4, 8, mesh.tp, rng=np.random.default_rng(seed))
        optimizer = SGD(layer)
        (checkpoint.load if seed else partial(checkpoint.save, meta={}))(tmp_path, layer, optimizer, mesh)
        return layer.parameters()["down.bias"].data, layer.parameters()["up.weight"]

    saved, (got,) = run(main, 2, 0), run(main, 1, 1)
    np.testing.assert_array_equal(nn.assemble([(one[1], one[1].data) for one in saved]), got[1].data)
    with pytest.raises(ValueError, match=r"has no configuration of a language model.*; load it on the ranks"):
        reshard(tmp_path, tmp_path / "out", 2)
    with pytest.raises(ValueError, match=r"another model's checkpoint, without .* and with \['down.bias'"):
        loaded(tmp_path)


# --- reshard ------------------------------------------------------------------------------------------------


def tpsim(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tpsim", *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_reshard_writes_what_those_ranks_would_have_saved(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    for ranks in (1, 2, 8):
        save(tmp_path / str(ranks), config, ranks)
    for source, target in ((1, 8), (8, 2), (2, 1)):
        out = reshard(tmp_path / str(source), tmp_path / f"from {source}", target)
        for file in sorted((tmp_path / str(target) / "step-000007").iterdir()):
            assert (out / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_reshard_command(tmp_path: Path) -> None:
    save(tmp_path / "run", GPT, 2)
    done = tpsim("reshard", tmp_path / "run", tmp_path / "out", "--tp", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"written: {tmp_path / 'out' / 'step-000007'}"
    assert len(list((tmp_path / "out" / "step-000007").glob("*.safetensors"))) == 4
    assert_same(loaded(tmp_path / "out"), whole_states(GPT))

    again = tpsim("reshard", tmp_path / "run", tmp_path / "out", "--tp", "4")
    assert again.returncode == 2
    assert "is there already; pick another folder" in again.stderr
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("tp", "complaint"), [(3, "heads 8 is not divisible by 3 ranks"), (0, "0 ranks are none; pick 1 or more")]
)
def test_a_cut_that_cannot_be_is_refused(tp: int, complaint: str, tmp_path: Path) -> None:
    save(tmp_path / "run", GPT, 1)
    with pytest.raises(ValueError, match=complaint):
        reshard(tmp_path / "run", tmp_path / "out", tp)
    assert not (tmp_path / "out").exists()


# --- under mpiexec ------------------------------------------------------------------------------------------


@needs_mpi
def test_processes_save_the_bytes_that_virtual_ranks_do(tmp_path: Path) -> None:
    script = tmp_path / "save.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "import test_checkpoint as here, tpsim\n"
        f"tpsim.launch(here.save_on, 2, Path({str(tmp_path / 'mpi')!r}), here.LLAMA, 2, False, 7)\n"
    )
    (tmp_path / "scratch").mkdir()
    job = mpiexec(2, script, tmp=tmp_path / "scratch")
    assert job.code == 0, job.err
    save(tmp_path / "virtual", LLAMA, 2)
    for file in (tmp_path / "virtual" / "step-000007").iterdir():
        assert (tmp_path / "mpi" / "step-000007" / file.name).read_bytes() == file.read_bytes()
    assert_same(loaded(tmp_path / "mpi", LLAMA, 4), whole_states(LLAMA))
