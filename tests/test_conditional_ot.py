"""Transport that respects conditions, against brute force; masked sequences through every coupling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from pushforward.couplings import ConditionalOT, Coupling, MinibatchOT, Rows, SinkhornOT, UnbalancedOT
from pushforward.couplings.conditional_ot import critical_weight
from pushforward.objectives import Batch, FlowMatching, Step

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=gen(seed))


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Entry by entry, without matrix products."""
    return (x.reshape(len(x), 1, -1) - y.reshape(1, len(y), -1)).square().sum(2)


def best(table: Tensor) -> float:
    rows, columns = linear_sum_assignment(table.numpy())
    return float(table[rows, columns].sum())


def permuted(indices: Tensor, n: int) -> bool:
    return all(torch.equal(column.sort().values, torch.arange(n)) for column in indices.T)


# -- labels ------------------------------------------------------------------------------------------


def test_every_row_gets_a_source_row_of_its_own_label() -> None:
    label = torch.randint(0, 4, (200,), generator=gen())
    order = torch.randperm(200, generator=gen(1))
    source, target = Rows(draw(200, 2), label), Rows(draw(200, 2, seed=1) + label[:, None], label)
    for side in (target, target.take(order)):
        pairing = ConditionalOT().pair(source, side)
        assert permuted(pairing.indices, 200)
        assert isinstance(side.condition, Tensor)
        assert torch.equal(label[pairing.indices[:, 0]], side.condition[pairing.indices[:, 1]])
        assert pairing.info["same"] == 1 and pairing.info["weight"] == math.inf
        total = sum(
            best(distances(source.x[label == k], target.x[label == k])) for k in label.unique().tolist()
        )
        assert pairing.info["cost"] * 200 == pytest.approx(total, rel=1e-9)
    # plain transport mixes the labels up, which is what skews p(x0 | label)
    plain = MinibatchOT().pair(source, target).indices
    assert float((label[plain[:, 0]] == label[plain[:, 1]]).double().mean()) < 0.8


def test_source_given_a_label_stays_the_source() -> None:
    """Plain pairs of a label come from one side of the source; here x0 given it keeps the source's mean."""
    n = 2000
    label = torch.randint(0, 2, (n,), generator=gen())
    source, target = Rows(draw(n, 1), label), Rows(draw(n, 1, seed=1) + 4.0 * label[:, None], label)
    means = []
    for coupling in (MinibatchOT(), ConditionalOT()):
        first, second = coupling.pair(source, target).indices.unbind(1)
        means.append(float(source.x[first][label[second] == 1].mean()))
    # the upper half of a standard normal; five standard errors of a mean of about n / 2
    assert means[0] > 0.7 and abs(means[1]) < 5 / math.sqrt(n / 2)


@pytest.mark.parametrize("n,m", [(6, 6), (5, 7)])
def test_labels_whose_counts_differ_match_as_often_as_they_can(n: int, m: int) -> None:
    a, b = torch.randint(0, 3, (n,), generator=gen(3)), torch.randint(0, 3, (m,), generator=gen(5))
    x, y = draw(n, 2), 30 * draw(m, 2, seed=1)
    pairing = ConditionalOT().pair(Rows(x, a), Rows(y, b), gen())
    if n != m:
        # each unit of a row's mass goes to its own label as far as there is room
        room = sum(min(float((a == k).double().mean()), float((b == k).double().mean())) for k in range(3))
        pairs = torch.cat([ConditionalOT().pair(Rows(x, a), Rows(y, b), gen(s)).indices for s in range(300)])
        same = float((a[pairs[:, 0]] == b[pairs[:, 1]]).double().mean())
        # evenly spread draws of one offset: five standard errors of 300 draws of at most one pair in m
        assert same == pytest.approx(room, abs=5 / math.sqrt(300) / m)
        return
    table = distances(x, y)
    values = [
        (-sum(int(a[i] == b[j]) for i, j in enumerate(p)), float(sum(table[i, j] for i, j in enumerate(p))))
        for p in itertools.permutations(range(n))
    ]
    matches, cost = min(values)
    assert pairing.info["same"] == pytest.approx(-matches / n)
    assert pairing.info["cost"] == pytest.approx(cost / n, rel=1e-9)


def test_weights_of_rows_count() -> None:
    label = torch.tensor([0, 0, 1, 1])
    target = Rows(draw(4, 2, seed=1), label, weight=torch.tensor([1.0, 0.0, 2.0, 1.0]))
    pairs = torch.cat(
        [ConditionalOT().pair(Rows(draw(4, 2), label), target, gen(s)).indices for s in range(200)]
    )
    assert 1 not in pairs[:, 1]
    # half the mass of the source is of label 0, a quarter of the target's
    assert float((label[pairs[:, 0]] == label[pairs[:, 1]]).double().mean()) == pytest.approx(0.75, abs=0.1)


# -- conditions that are numbers ---------------------------------------------------------------------


def continuous(n: int, seed: int = 0) -> tuple[Rows, Rows]:
    c = draw(n, 2, seed=seed + 10)
    return Rows(draw(n, 2, seed=seed), c), Rows(draw(n, 2, seed=seed + 1) + c, c)


@pytest.mark.parametrize("ratio", [0.02, 0.05, 0.2])
def test_the_weight_found_leaves_the_share_of_candidates_asked_for(ratio: float) -> None:
    source, target = continuous(120)
    assert isinstance(source.condition, Tensor) and isinstance(target.condition, Tensor)
    w = ConditionalOT(ratio).pair(source, target).info["weight"]
    costs = distances(source.x, target.x) + w * distances(source.condition, target.condition)
    cheaper = (costs <= costs.diagonal()[:, None]).fill_diagonal_(False)
    assert float(cheaper.sum()) / (120 * 119) == pytest.approx(ratio, abs=1 / (120 * 119))
    order = torch.randperm(120, generator=gen(2))
    # row i of the source need not stand beside the target row whose condition it carries
    assert ConditionalOT(ratio).pair(source, target.take(order)).info["weight"] == pytest.approx(w, rel=1e-9)


def test_among_equal_conditions_a_row_is_measured_against_its_own() -> None:
    c = draw(12, 5, seed=2)[torch.arange(120) % 12]
    source, target = Rows(draw(120, 2), c), Rows(draw(120, 2, seed=1) + c[:, :2], c)
    w = ConditionalOT(0.06).pair(source, target).info["weight"]
    costs = distances(source.x, target.x) + w * distances(c, c)
    cheaper = (costs <= costs.diagonal()[:, None]).fill_diagonal_(False)
    assert w > 0 and float(cheaper.sum()) / (120 * 119) == pytest.approx(0.06, abs=1 / (120 * 119))


def test_rounding_of_equal_conditions_changes_nothing() -> None:
    group = torch.arange(60) % 6
    distance = distances(draw(60, 2), draw(60, 2, seed=1))
    apart = distances(draw(6, 1, seed=2)[group], draw(6, 1, seed=2)[group])
    noise = 1e-15 * torch.rand(60, 60, dtype=DOUBLE, generator=gen())
    allowed = torch.ones(60, 60, dtype=torch.bool)
    exact, rounded = (critical_weight(distance, c, allowed, 0.15) for c in (apart, apart + noise))
    assert exact > 0 and rounded == pytest.approx(exact, rel=1e-9)


def test_the_plan_is_the_best_for_its_weight() -> None:
    source, target = continuous(7)
    assert isinstance(source.condition, Tensor) and isinstance(target.condition, Tensor)
    for coupling in (ConditionalOT(0.3), ConditionalOT(weight=0.5)):
        pairing = coupling.pair(source, target)
        w = pairing.info["weight"]
        table = distances(source.x, target.x) + w * distances(source.condition, target.condition)
        least = min(float(table[range(7), list(p)].sum()) for p in itertools.permutations(range(7)))
        rows, columns = pairing.indices.unbind(1)
        assert w > 0 and float(table[rows, columns].sum()) == pytest.approx(least, rel=1e-9)
        cost = distances(source.x, target.x)[rows, columns].mean()
        assert pairing.info["cost"] == pytest.approx(float(cost), rel=1e-9)


def test_from_plain_transport_to_own_conditions() -> None:
    source, target = continuous(100)
    plain = MinibatchOT().pair(source, target)
    assert torch.equal(ConditionalOT(weight=0.0).pair(source, target).indices, plain.indices)
    assert ConditionalOT(0.9).pair(source, target).info["weight"] == 0
    assert torch.equal(ConditionalOT(0.9).pair(source, target).indices, plain.indices)
    own = ConditionalOT(weight=1e6).pair(source, target).indices
    assert torch.equal(own[:, 0], own[:, 1])
    costs = [ConditionalOT(weight=w).pair(source, target).info["cost"] for w in (0.0, 0.3, 3.0, 1e6)]
    assert costs == sorted(costs) and costs[0] == pytest.approx(plain.info["cost"])
    assert torch.equal(ConditionalOT().pair(source.x, target.x).indices, plain.indices)


def test_a_ratio_below_what_repeated_conditions_allow_gives_the_largest_weight() -> None:
    label = torch.arange(60) % 2
    c = label.double()[:, None]
    source, target = Rows(draw(60, 2), c), Rows(draw(60, 2, seed=1) + 3 * c, c)
    indices = ConditionalOT(0.05).pair(source, target).indices
    same = ConditionalOT().pair(Rows(source.x, label), Rows(target.x, label)).indices
    assert torch.equal(indices, same)


def test_rows_without_candidates_of_their_label_do_not_count() -> None:
    distance, apart = torch.rand(2, 4, 4, dtype=DOUBLE, generator=gen())
    allowed = torch.ones(4, 4, dtype=torch.bool)
    allowed[0] = False
    apart.fill_diagonal_(0.0)
    w = critical_weight(distance, apart, allowed, 0.2)
    costs, others = distance + w * apart, allowed.clone().fill_diagonal_(False)
    # one in five of nine, not of twelve
    assert int(((costs <= costs.diagonal()[:, None]) & others).sum()) == 1
    assert critical_weight(distance, apart, torch.zeros_like(allowed), 0.4) == 0


@pytest.mark.parametrize("counts_agree", [True, False])
def test_mappings_keep_labels_apart_and_price_the_rest(counts_agree: bool) -> None:
    n = 80
    label, dose = torch.randint(0, 3, (n,), generator=gen()), draw(n, seed=5)
    source = Rows(draw(n, 2), {"label": label, "dose": dose})
    other = label.clone()
    if not counts_agree:
        other[(label == 0).nonzero()[0]] = 1
    target = Rows(draw(n, 2, seed=1) + dose[:, None], {"label": other, "dose": dose})
    pairing = ConditionalOT(0.05).pair(source, target)
    rows, columns = pairing.indices.unbind(1)
    assert permuted(pairing.indices, n)
    assert pairing.info["same"] == pytest.approx(1 if counts_agree else 1 - 1 / n)
    w = pairing.info["weight"]
    table = distances(source.x, target.x) + w * distances(dose, dose)
    alike = label[:, None] == other
    shift = 1e6 * (~alike).double()
    assert float((table + shift)[rows, columns].sum()) == pytest.approx(best(table + shift), rel=1e-9)
    if counts_agree:
        others = alike.clone().fill_diagonal_(False)
        share = float(((table <= table.diagonal()[:, None]) & others).sum() / others.sum())
        assert share == pytest.approx(0.05, abs=2 / int(others.sum()))
    priced = ConditionalOT(weight=2.0).pair(source, target)
    table = distances(source.x, target.x) + 2.0 * (distances(dose, dose) + (~alike).double())
    rows, columns = priced.indices.unbind(1)
    assert float(table[rows, columns].sum()) == pytest.approx(best(table), rel=1e-9)


@pytest.mark.parametrize(
    "call,match",
    [
        (lambda: ConditionalOT(0.0), "ratio: expected a share between"),
        (lambda: ConditionalOT(1.0), "ratio: expected a share between"),
        (lambda: ConditionalOT(weight=-1.0), "weight: expected a finite"),
        (lambda: ConditionalOT(weight=math.inf), "weight: expected a finite"),
        (lambda: pair(None, torch.zeros(3)), "source.condition: expected conditions on both sides"),
        (lambda: pair(torch.zeros(3), None), "target.condition: expected conditions on both sides"),
        (lambda: pair({"a": torch.zeros(3)}, {"b": torch.zeros(3)}), r"got \['a'\] and \['b'\]"),
        (lambda: pair(torch.zeros(3), {"b": torch.zeros(3)}), r"got \['condition'\] and \['b'\]"),
        (
            lambda: pair(torch.zeros(3), torch.zeros(3, dtype=torch.int64)),
            "condition: expected 3 and 3 rows of one",
        ),
        (
            lambda: pair({"a": torch.zeros(3, 2)}, {"a": torch.zeros(3, 4)}),
            "a: expected 3 and 3 rows of one kind",
        ),
        (lambda: pair(torch.zeros(2), torch.zeros(3)), "condition: expected 3 rows as x has"),
        (lambda: pair(torch.full((3,), math.nan), torch.zeros(3)), "expected finite values"),
    ],
)
def test_bad_input_is_named(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def pair(c0, c1) -> None:
    ConditionalOT().pair(Rows(torch.zeros(3, 1), c0), Rows(torch.zeros(3, 1), c1))


# -- masked sequences --------------------------------------------------------------------------------


class Echo(nn.Module):
    """A field that looks at its row only, position by position."""

    def forward(self, t: Tensor, x: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return torch.tanh(x) * t[:, None, None] + condition["mu"] + condition["speaker"][:, None, None]


def speech(padding: float, masked: bool = False) -> tuple[Rows, Rows]:
    """Spectrograms of several lengths with what they are conditioned on, and noise for them.

    ``padding`` stands where sequences have ended.  Noise fills whole rows, unless it is ``masked`` too.
    """
    g, (rows, length, bins) = gen(4), (48, 12, 4)
    lengths = torch.randint(3, length + 1, (rows,), generator=g)
    mask = torch.arange(length) < lengths[:, None]
    speaker = torch.randint(0, 3, (rows,), generator=g)
    mu, x1, x0 = torch.randn(3, rows, length, bins, generator=g)
    mu, x1, short = (torch.where(mask[..., None], v, padding) for v in (mu, x1 + mu, x0))
    condition = {"mu": mu, "speaker": speaker}
    source = Rows(short, condition, mask) if masked else Rows(x0, condition)
    return source, Rows(x1, condition, mask)


COUPLINGS: list[Coupling] = [MinibatchOT(), SinkhornOT(0.1), UnbalancedOT(0.1, 5.0), ConditionalOT(0.3)]


@pytest.mark.parametrize("coupling", COUPLINGS, ids=lambda c: type(c).__name__)
def test_masked_sequences_go_through_with_all_that_belongs_to_them(coupling: Coupling) -> None:
    source, target = speech(0.0)
    indices = coupling.pair(source, target, gen()).indices
    _, paired = coupling(source, target, gen())
    assert paired.mask is not None and target.mask is not None
    assert isinstance(paired.condition, dict) and isinstance(target.condition, dict)
    for ours, theirs in (
        (paired.x, target.x),
        (paired.mask, target.mask),
        *((paired.condition[k], target.condition[k]) for k in ("mu", "speaker")),
    ):
        assert torch.equal(ours, theirs[indices[:, 1]])
    if isinstance(coupling, ConditionalOT):
        speaker = target.condition["speaker"]
        assert torch.equal(speaker[indices[:, 0]], speaker[indices[:, 1]]) and permuted(indices, len(target))


@pytest.mark.parametrize("padding", [7.0, -1e4, math.nan])
@pytest.mark.parametrize("coupling", COUPLINGS, ids=lambda c: type(c).__name__)
def test_padding_changes_neither_the_plan_nor_the_loss(coupling: Coupling, padding: float) -> None:
    losses = []
    for value in (0.0, padding):
        batch = Batch(coupling(*speech(value), gen()))
        models = nn.ModuleDict({"field": Echo()})
        losses.append(FlowMatching().loss(models, batch, Step(generator=gen(1))).value)
    assert torch.isfinite(losses[0]) and torch.equal(losses[0], losses[1])
    for masked in (False, True):
        plain, other = (coupling.pair(*speech(value, masked), gen()) for value in (0.0, padding))
        assert torch.equal(plain.indices, other.indices)
        assert plain.info == pytest.approx(other.info, rel=1e-6)


def test_a_mask_changes_the_plan() -> None:
    """Otherwise the test above would say little."""
    for coupling in COUPLINGS:
        source, target = speech(7.0)
        bare = Rows(target.x, target.condition)
        assert not torch.equal(
            coupling.pair(source, target, gen()).indices, coupling.pair(source, bare, gen()).indices
        )
