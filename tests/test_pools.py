"""Plans made ahead: the same whoever makes them, each pair used as often as said."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from narrowing import one_tensor
from pushforward.couplings import Coupling, GivenPairs, Independent, MinibatchOT, Pairing, Rows, as_rows
from pushforward.sources import Normal
from pushforward.training import ModelSpace, Plans, pairs


def rows(n=300, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=g) + 3
    return Rows(x, torch.arange(n))


def batches(coupling=None, seed=1, **options) -> Any:
    size, plans = options.pop("size", 64), Plans(**{"rows": 96, "reuse": 3, **options})
    return pairs(Normal(2), rows(), coupling or MinibatchOT(), size=size, seed=seed, plans=plans)


class Counting(Coupling):
    """Pairs by position and notes which batches it saw, and in which thread."""

    def __init__(self):
        self.seen, self.threads = [], set()

    def pair(self, source, target, generator=None):
        self.seen.append(as_rows(target).x)
        self.threads.add(threading.current_thread().name)
        index = torch.arange(len(as_rows(source)))
        return Pairing(torch.stack([index, index], 1))


def pairs_of(batch):
    return [(*a, c) for a, c in zip(batch.source.x.tolist(), batch.target.condition.tolist())]


def test_every_pair_is_used_as_often_as_said_and_then_never_again():
    """One pool is 8 plans of 96 pairs, used 3 times: 2,304 draws are 36 batches of 64."""
    source = batches()
    first = [pair for k in range(36) for pair in pairs_of(source(k))]
    counts = {pair: first.count(pair) for pair in set(first)}
    assert len(counts) == 8 * 96 and set(counts.values()) == {3}
    # each pass goes through all pairs, in another order
    assert set(first[:768]) == set(first[768:1536]) and first[:768] != first[768:1536]
    second = {pair for k in range(36, 48) for pair in pairs_of(source(k))}
    assert not second & set(first)
    source.close()


def test_pairs_are_those_of_the_plan():
    """Within a plan no two pairs would be cheaper exchanged: what an optimal plan means."""
    source = batches(reuse=1)
    pool = source.ahead.pool(0)
    x0, index = pool.source, pool.indices
    for k in range(8):
        at = index[96 * k : 96 * (k + 1)]
        a, b = x0[at[:, 0]].double(), source.data.kept.x[at[:, 1]].double()
        assert sorted(at[:, 0].tolist()) == list(range(96 * k, 96 * (k + 1)))
        cost = torch.cdist(a, b).square()
        paid = cost.diagonal()
        assert bool((paid[:, None] + paid[None, :] <= cost + cost.T + 1e-9).all())
    source.close()


def test_batches_depend_on_the_seed_and_the_step_alone():
    one, other = batches(), batches()
    want = [one(k) for k in range(80)]
    # another order of asking, as after resuming
    for k in (79, 3, 40, 41):
        assert torch.equal(other(k).source.x, want[k].source.x)
        assert torch.equal(other(k).target.x, want[k].target.x)
    assert not torch.equal(batches(seed=2)(3).source.x, want[3].source.x)
    for source in (one, other):
        source.close()


def test_processes_that_share_plans_out_get_what_one_process_gets():
    """Two ranks solve half of the plans each and exchange them."""
    meeting = threading.Barrier(2)
    table = {}

    def gather_as(rank):
        def gather(mine):
            table[rank] = mine
            meeting.wait(20)
            everybody = [table[0], table[1]]
            meeting.wait(20)
            return everybody

        return gather

    couplings = [Counting(), Counting()]
    parts = [batches(couplings[rank], gather=gather_as(rank), steps=2) for rank in range(2)]
    reference = batches(Counting())
    got = {}

    def work(rank):
        got[rank] = [parts[rank](k, rank, 2) for k in (0, 1)]

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for k in (0, 1):
        joined = torch.cat([got[rank][k].target.x for rank in range(2)])
        assert torch.equal(joined, reference(k).target.x)
    assert [len(c.seen) for c in couplings] == [4, 4]  # of the pool's 8 plans
    for source in (reference, *parts):
        source.close()


def test_plans_are_made_in_the_background_and_not_beyond_the_last_step():
    coupling = Counting()
    source = batches(coupling, steps=36)  # exactly one pool
    for k in range(36):
        source(k)
    assert len(coupling.seen) == 8 and coupling.threads == {"plans_0"}
    longer = Counting()
    source = batches(longer, steps=37)
    source(0)
    source.ahead._coming[1].result()
    assert len(longer.seen) == 16
    source.close()


def test_plan_rows_are_data_rows_without_replacement():
    coupling = Counting()
    batches(coupling, rows=100, size=50, steps=1)(0)
    first_epoch = torch.cat(coupling.seen[:3])
    assert torch.equal(first_epoch.sort(0).values, rows().x.sort(0).values)


def test_a_failing_coupling_is_heard_of():
    class Broken(Coupling):
        def pair(self, source, target, generator=None):
            raise ValueError("no plan today")

    with pytest.raises(ValueError, match="no plan today"):
        batches(Broken())(0)


def test_weights_of_pairs_reach_the_loss_and_are_normalised_over_the_batch():
    class Weighted(Coupling):
        def pair(self, source, target, generator=None):
            index = torch.arange(len(as_rows(source)))
            return Pairing(torch.stack([index, index], 1), one_tensor(as_rows(target).condition).float())

    source = batches(Weighted())
    batch = source(0)
    assert torch.equal(batch.weight, batch.target.condition.float())
    losses = torch.rand(64)
    want = (batch.weight * losses).sum() / batch.weight.sum()
    assert float(batch.mean(losses)) == pytest.approx(float(want))
    parts = [source(0, rank, 2) for rank in range(2)]
    means = [float(p.mean(losses[32 * r : 32 * r + 32])) for r, p in enumerate(parts)]
    assert sum(means) / 2 == pytest.approx(float(want))
    source.close()


def test_given_pairs_stay_pairs_and_come_in_fresh_orders():
    x0, target = torch.arange(100.0).reshape(50, 2), rows(50)
    source: Any = pairs(Rows(x0), target, GivenPairs(50), size=20, seed=4)
    seen = []
    for k in range(5):  # two epochs
        batch = source(k)
        assert torch.equal(batch.source.x, x0[batch.target.condition])
        seen += batch.target.condition.tolist()
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50)) and seen[:50] != seen[50:]
    whole, parts = source(2), [source(2, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat([p.source.x for p in parts]), whole.source.x)


def test_sample_weights_of_data_rows_are_kept_whichever_coupling():
    target = rows(40)
    target = Rows(target.x, target.condition, None, torch.arange(40.0))
    batch: Any = pairs(Normal(2), target, Independent(), size=16, seed=1)(0)
    assert torch.equal(batch.weight, batch.target.condition.float())


def test_jitter_is_for_batches_and_couplings_see_the_data_as_they_were_fitted():
    """What a coupling of a whole data set was fitted on, it knows again under jitter."""

    class Whole(Counting):
        whole = True

    coupling, space = Whole(), ModelSpace(jitter=0.5)
    source: Any = pairs(Normal(2), rows(), coupling, size=64, space=space, plans=Plans(64, steps=1))
    batch = source(0)
    assert all(torch.equal(seen, rows().x) for seen in coupling.seen)
    moved = batch.target.x - rows().x[batch.target.condition]
    assert 0.3 < float(moved.std()) < 0.7
    source.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "plans.rows: expected an integer of at least 1, got 0"),
        ({"reuse": 0}, "plans.reuse: expected an integer of at least 1, got 0"),
        ({"rows": 301}, "plans.rows: expected at most the 300 rows of the target, got 301"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        batches(**options)


def test_sources_that_do_not_fit():
    with pytest.raises(ValueError, match="others take a Source"):
        pairs(rows(), rows(), MinibatchOT(), size=8)
    with pytest.raises(ValueError, match=r"expected equal events, got \(3,\) and \(2,\)"):
        pairs(Normal(3), rows(), size=8)
    with pytest.raises(ValueError, match="expected the 299 given rows"):
        pairs(rows(299), rows(), GivenPairs(299), size=8)
    with pytest.raises(ValueError, match="expected the rows that the coupling pairs"):
        pairs(Normal(2), rows(), GivenPairs(300), size=8)
