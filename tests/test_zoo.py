"""Known bugs of real systems: each must be caught by the very property that the good code passes."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings

from tpsim import infer, nn, train
from tpsim.comm import CollectiveMismatchError, CommError, Group
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.infer import cache
from tpsim.lab.cases import AttentionCase, ColumnCase, LayerCase, NormCase, RowCase
from tpsim.lab.collectives import CollectiveCase
from tpsim.lab.decoding import DecodeCase, SampleCase
from tpsim.lab.masking import DropoutCase
from tpsim.lab.properties import equals_one_device, equals_reference
from tpsim.lab.sampling import HeadCase
from tpsim.lab.violation import Violation
from tpsim.lab.vocabulary import LossCase
from tpsim.lab.zoo import ZOO, Bug, planted
from tpsim.models import kv_cache
from tpsim.nn import attention, borders, dropout, linear, loss, overlap
from tpsim.train import step

each_bug = pytest.mark.parametrize("bug", ZOO.values(), ids=ZOO)
search = settings(deadline=None, max_examples=500, database=None, phases=[Phase.generate])


def is_caught(bug: Bug, case: Any) -> bool:
    """Whether the bug's property fails. Any other error is a broken bug: it is raised."""
    try:
        bug.caught_by(case)
    except (Violation, CommError):
        return True
    return False


def caught(bug: Bug, ranks: Any = range(1, 9)) -> Any:
    """A case in which the planted bug is caught."""
    with planted(bug):
        return find(
            bug.cases(ranks=ranks),
            lambda case: is_caught(bug, case),
            settings=search,
            random=random.Random(0),
        )


@each_bug
def test_the_property_catches_the_planted_bug_and_passes_the_good_code(bug: Bug) -> None:
    case = caught(bug)
    assert not is_caught(bug, case)
    with planted(bug):
        assert is_caught(bug, case)
    assert not is_caught(bug, case)  # and it is gone again


@each_bug
def test_the_property_passes_the_good_code_on_drawn_cases(bug: Bug) -> None:
    @settings(deadline=None, max_examples=15, database=None)
    @given(bug.cases())
    def passes(case: Any) -> None:
        bug.caught_by(case)

    passes()


@each_bug
def test_a_bug_hides_at_one_rank_unless_every_rank_errs_alike(bug: Bug) -> None:
    @settings(deadline=None, max_examples=15, database=None)
    @given(bug.cases(ranks=(1,)))
    def passes(case: Any) -> None:
        bug.caught_by(case)

    if bug.hides_at_one_rank:
        with planted(bug):
            passes()
    else:
        assert caught(bug, ranks=(1,)).ranks == 1


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_scaled_by_hidden_equals_itself_at_every_t_and_only_the_reference_shows_it(ranks: int) -> None:
    bug = ZOO["scaled-by-hidden"]
    case = caught(bug, ranks=(ranks,))
    with planted(bug):
        equals_one_device(case)
        for t in (ranks, 1):
            with pytest.raises(Violation):
                equals_reference(replace(case, ranks=t))


@pytest.mark.parametrize("name", ["no-reduce-in-backward", "row-bias-on-every-rank", "qkv-cut-evenly"])
def test_a_bug_of_cutting_differs_from_one_device(name: str) -> None:
    case = caught(ZOO[name])
    equals_one_device(case)
    with planted(ZOO[name]), pytest.raises(Violation):
        equals_one_device(case)


@pytest.mark.parametrize("messages", [False, True])
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_branch_around_a_collective_is_told_at_once(ranks: int, messages: bool) -> None:
    case = RowCase(ranks=ranks, in_features=ranks, messages=messages)
    with planted(ZOO["branch-around-collective"]), pytest.raises(CollectiveMismatchError) as mismatch:
        equals_reference(case)
    assert "rank 0: all_reduce" in str(mismatch.value)
    assert "all_gather(shape (1,)" in str(mismatch.value)
    assert "lab/zoo/borders.py" in str(mismatch.value)  # the line it came from


def test_the_two_shot_sum_is_right_on_rank_zero_alone() -> None:
    bug = ZOO["two-shot-from-rank-zero"]
    with planted(bug), pytest.raises(Violation, match=r"rank 1: all_reduce has .* wrong entries"):
        bug.caught_by(CollectiveCase(ranks=4, batch=2, seq=3, messages=True))


def test_memory_order_matters_in_place_only_where_ranks_differ() -> None:
    bug = ZOO["memory-as-it-lies"]
    case = CollectiveCase(ranks=2, seq=3, layouts=("C", "F"), in_place=True)
    with planted(bug):
        bug.caught_by(replace(case, layouts=("F",)))
        bug.caught_by(replace(case, in_place=False))
        with pytest.raises(Violation):
            bug.caught_by(case)


def test_db_of_a_divided_bias_is_right_under_sequence_parallelism_by_chance() -> None:
    case = RowCase(ranks=2, seq=2, in_features=2, bias=True)
    with planted(ZOO["row-bias-by-ranks"]):
        equals_reference(replace(case, sequence_parallel=True))
        with pytest.raises(Violation, match="bias differs"):
            equals_reference(case)


def test_smoothing_by_own_words_needs_no_padding_to_go_wrong() -> None:
    bug = ZOO["smoothed-by-own-words"]
    with planted(bug):
        bug.caught_by(LossCase(ranks=2, vocab=4))  # without smoothing there is nothing to see
        with pytest.raises(Violation):
            bug.caught_by(LossCase(ranks=2, vocab=4, label_smoothing=0.1))


def test_the_loss_of_gathered_logits_is_too_high_by_log_t() -> None:
    bug = ZOO["loss-of-gathered-logits"]
    with planted(bug), pytest.raises(Violation, match=r"loss differs from the reference by 1\.39 "):
        bug.caught_by(LossCase(ranks=4))  # log 4


def test_a_target_outside_the_graph_leaves_the_loss_right_and_its_gradient_wrong() -> None:
    bug = ZOO["target-outside-graph"]
    with planted(bug), pytest.raises(Violation, match=r"t = 2: dlogits differs"):
        bug.caught_by(LossCase(ranks=2, vocab=2))


def test_a_sentinel_hits_only_where_there_is_padding() -> None:
    bug = ZOO["sentinel-hits-padding"]
    with planted(bug):
        bug.caught_by(LossCase(ranks=2, vocab=4, seq=6))
        with pytest.raises(Violation, match="loss differs from the reference by inf"):
            bug.caught_by(LossCase(ranks=2, vocab=3, seq=6))


def test_the_mean_over_nonzero_losses_is_right_until_a_token_is_predicted_perfectly() -> None:
    bug = ZOO["mean-over-nonzero"]
    with planted(bug):
        bug.caught_by(LossCase(vocab=4, seq=6, ignored=0.4))
        with pytest.raises(Violation):
            bug.caught_by(LossCase(vocab=4, seq=6, ignored=0.4, scale=1000.0))


def test_a_generator_that_goes_on_shows_only_in_recompute_and_only_backward() -> None:
    bug = ZOO["rng-not-restored"]
    case = DropoutCase(seq=4, ffn=4, dropout=0.5, recompute="full")
    with planted(bug):
        bug.caught_by(replace(case, recompute="none"))
        with pytest.raises(Violation, match="t = 1: dx differs"):
            bug.caught_by(case)


@pytest.mark.parametrize(("sequence_parallel", "where"), [(False, "attention_dropout"), (True, "dropout")])
def test_one_mask_for_all_is_wrong_inside_the_region_alone(sequence_parallel: bool, where: str) -> None:
    bug = ZOO["one-mask-for-all-shards"]
    dropped: dict[str, Any] = {where: 0.5}
    plain = DropoutCase(ranks=2, seq=4, heads=2, kv_heads=2, ffn=4, sequence_parallel=sequence_parallel)
    with planted(bug):
        bug.caught_by(replace(plain, dropout=0.0 if sequence_parallel else 0.5))
        with pytest.raises(Violation, match="t = 2: y differs"):
            bug.caught_by(replace(plain, **dropped))


def test_a_norm_counts_copies_only_where_there_are_any() -> None:
    bug = ZOO["norm-counts-copies"]
    with planted(bug):
        bug.caught_by(ColumnCase(ranks=2, in_features=4, out_features=4, bias=True))
        with pytest.raises(Violation, match="finds a norm of"):
            bug.caught_by(NormCase(ranks=2))


def test_padding_wins_only_where_all_real_words_are_below_it() -> None:
    bug = ZOO["pads-win"]
    case = HeadCase(ranks=2, vocab=3, negative=True)
    with planted(bug):
        bug.caught_by(replace(case, vocab=4))  # no padding
        with pytest.raises(Violation, match="rank 0 samples word 3, which is padding of a vocabulary of 3"):
            bug.caught_by(case)


def test_kv_copies_are_counted_only_on_more_ranks_than_kv_heads() -> None:
    bug = ZOO["kv-copies-counted"]
    case = AttentionCase(ranks=2, heads=4, kv_heads=2, head_size=4, hidden=4)
    with planted(bug):
        bug.caught_by(case)
        with pytest.raises(Violation, match="said to have 4 different kv heads, and the model has 2"):
            bug.caught_by(replace(case, ranks=4))


def test_shared_positions_are_wrong_only_for_rows_that_are_shorter() -> None:
    bug = ZOO["one-position-for-all"]
    for learned in (False, True):
        case = DecodeCase(lengths=(5, 5), new=2, learned=learned)
        with planted(bug):
            bug.caught_by(case)
            with pytest.raises(Violation, match="after 4 tokens rank 0's logits of row 1 differ"):
                bug.caught_by(replace(case, lengths=(5, 3)))


def test_a_window_that_rolls_too_early_is_right_until_it_is_full() -> None:
    bug = ZOO["window-rolled-too-early"]
    case = DecodeCase(lengths=(2,), new=3, window=6)
    with planted(bug):
        bug.caught_by(case)
        with pytest.raises(Violation, match="after 6 tokens"):
            bug.caught_by(replace(case, new=4))


def test_ranks_with_their_own_dice_agree_as_long_as_the_best_word_is_taken() -> None:
    bug = ZOO["own-dice"]
    case = SampleCase(ranks=4, vocab=40, batch=3)
    with planted(bug):
        bug.caught_by(case)
        with pytest.raises(Violation, match="chooses the words"):
            bug.caught_by(replace(case, temperature=1.0, way="gathered"))


def test_the_zoo_has_all_bugs_of_layers_collectives_training_and_decoding() -> None:
    assert {bug.number for bug in ZOO.values()} == {*range(1, 37)}
    assert list(ZOO) == [bug.name for bug in ZOO.values()]
    for bug in ZOO.values():
        assert bug.title
        assert bug.goes_wrong


# --- planting -----------------------------------------------------------------------------------------------


def replaced() -> list[Any]:
    """All that the bugs replace, under all names that layers use."""
    return [
        nn.RowParallelLinear,
        linear.RowParallelLinear,
        vars(overlap)["RowParallelLinear"],
        borders.CopyToRegion,
        nn.CopyToRegion,
        nn.sum_replica_gradients,
        nn.Parameter,
        nn.Layer.load,
        vars(linear)["check_divides"],
        attention.kv_piece,
        Group.all_reduce,
        ALGORITHMS["ring"],
        nn.VocabParallelCrossEntropy,
        vars(loss)["own_rows"],
        nn.mean_over_valid,
        nn.ScatterSequence,
        vars(dropout)["part_mask"],
        vars(attention)["Dropout"],
        train.global_norm,
        vars(step)["clip"].__globals__["global_norm"],
        nn.LMHead,
        vars(overlap)["LMHead"],
        kv_cache.kv_heads_at,
        vars(cache)["Step"],
        infer.Step,
        infer.Sampler,
    ]


@each_bug
def test_everything_is_put_back_also_after_an_error(bug: Bug) -> None:
    before = replaced()
    with pytest.raises(KeyboardInterrupt), planted(bug):
        raise KeyboardInterrupt
    assert all(one is other for one, other in zip(before, replaced(), strict=True))


def test_a_bug_is_planted_under_every_name() -> None:
    bug = ZOO["row-bias-on-every-rank"]
    with planted(bug):
        for module in (nn, linear, overlap):
            assert vars(module)["RowParallelLinear"] is bug.patient


def test_a_case_of_a_planted_bug_prints_as_the_good_one() -> None:
    case: LayerCase = caught(ZOO["no-reduce-in-backward"])
    assert str(case).startswith("ColumnCase(ranks=")
