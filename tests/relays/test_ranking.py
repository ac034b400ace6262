"""Which relay is chosen, by what was measured."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import ConfigError, NoRelay, RelayTimeout
from relaycall.relays.probe_result import ProbeResult, Verdict, failed
from relaycall.relays.ranking import FIRST_BAN, LONGEST_BAN, Bans, Ranking, Selection, rank
from relaycall.relays.server import RelayServer

SAMPLES = 11  # round trips in a probe: the Allocate and ten packets
JITTER = 0.2


def relay(name: str, transport: str = "udp", *, region: str | None = None, operator: str | None = None) -> RelayServer:
    scheme = "turns" if transport == "tls" else "turn"
    query = "udp" if transport == "udp" else "tcp"
    return RelayServer.parse(f"{scheme}:{name}?transport={query}", region=region, operator=operator)


def found(
    server: RelayServer,
    rtt: float,
    *,
    loss: float = 0.0,
    network: str | None = None,
    family: str = "ipv4",
    verdict: Verdict = Verdict.OK,
) -> ProbeResult:
    return ProbeResult(server, verdict, family, rtt_ms=rtt, rtt_min_ms=rtt, loss=loss, network=network)


def dead(server: RelayServer) -> ProbeResult:
    return failed(server, RelayTimeout(server.name))


def jittered(rtt: float, rng: random.Random) -> float:
    """The median of a probe whose every packet is up to 20 % early or late."""
    return statistics.median(rtt * rng.uniform(1 - JITTER, 1 + JITTER) for _ in range(SAMPLES))


A, B, C, D, E = (relay(f"{name}.example.org") for name in "abcde")


# --- a first choice ---------------------------------------------------------------------------------------------------


def test_the_nearest_is_chosen_and_the_second_nearest_is_the_backup() -> None:
    chosen = rank([found(A, 80), found(B, 20), found(C, 50)])
    assert (chosen.primary, chosen.backup, chosen.latency_ms) == (B, C, 20)
    assert [result.server for result in chosen.table] == [B, C, A]


def test_the_unusable_are_never_chosen_and_come_last_in_the_table() -> None:
    silent = found(D, 1, verdict=Verdict.NO_FORWARDING)
    chosen = rank([dead(A), found(B, 20), silent])
    assert (chosen.primary, chosen.backup) == (B, None)
    assert [result.server for result in chosen.table] == [B, A, D]


def test_a_relay_whose_forwarding_cannot_be_checked_is_usable() -> None:
    assert rank([found(A, 20, verdict=Verdict.UNCHECKED)]).primary == A


def test_none_usable_says_why_for_each() -> None:
    with pytest.raises(NoRelay) as refused:
        rank([dead(A), dead(B)])
    assert [failure.relay for failure in refused.value.failures] == [A.name, B.name]


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ConfigError):
        rank([])


def test_tcp_and_tls_only_where_udp_does_not_work() -> None:
    tcp, tls = relay("a.example.org", "tcp"), relay("a.example.org", "tls")
    slow_udp = found(A, 90)
    chosen = rank([found(tls, 20), found(tcp, 20), slow_udp])
    assert (chosen.primary, chosen.backup) == (A, None)  # the others are ways to the same relay
    assert rank([found(tcp, 30), dead(A), found(tls, 20)]).primary == tls
    assert rank([found(tls, 20), found(B, 90)]).primary == B  # another relay that works over UDP comes first


def test_a_lossy_relay_comes_after_one_that_keeps_its_packets() -> None:
    chosen = rank([found(A, 20, loss=0.3, verdict=Verdict.LOSSY), found(B, 90)])
    assert (chosen.primary, chosen.backup) == (B, A)


def test_of_two_address_families_the_better_one_counts_and_no_relay_backs_itself_up() -> None:
    chosen = rank([found(A, 90), found(A, 20, family="ipv6")])
    assert (chosen.primary, chosen.backup, chosen.latency_ms) == (A, None, 20)
    assert [result.family for result in chosen.table] == ["ipv6", "ipv4"]


def test_the_backup_prefers_another_operator_then_region_then_network_then_the_nearest() -> None:
    first = relay("one.example.org", region="eu", operator="x")
    same = relay("two.example.org", region="EU", operator="X")
    region = relay("three.example.org", region="us", operator="x")
    operator = relay("four.example.org", region="eu", operator="y")
    results = [found(first, 10, network="n1"), found(same, 20, network="n1"), found(same, 25, network="n1")]
    assert rank(results).backup == same
    network = relay("five.example.org", region="eu", operator="x")
    assert rank([*results, found(network, 30, network="n2")]).backup == network
    assert rank([*results, found(network, 30, network="n2"), found(region, 60, network="n1")]).backup == region
    everything = [*results, found(network, 30, network="n2"), found(region, 60), found(operator, 90)]
    assert rank(everything).backup == operator
    unknown = relay("six.example.org")  # an operator that is not known may be the same
    assert rank([*everything, found(unknown, 11)]).backup == operator


# --- measured with jitter ---------------------------------------------------------------------------------------------


def test_of_five_relays_the_right_two_are_chosen_200_times_of_200() -> None:
    rtts = {A: 95.0, B: 20.0, C: 60.0, D: 38.0, E: 150.0}
    for seed in range(200):
        rng = random.Random(seed)
        servers = list(rtts)
        rng.shuffle(servers)
        chosen = rank([found(server, jittered(rtts[server], rng)) for server in servers])
        assert (chosen.primary, chosen.backup) == (B, D), seed


@pytest.mark.parametrize("rtt", [5.0, 50.0, 148.0, 155.0, 400.0])
@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_two_within_five_percent_do_not_flap(rtt: float, loss: float) -> None:
    rng = random.Random(f"{rtt} {loss}")
    ranking, moves, last = Ranking(), 0, None
    for turn in range(1000):
        results = [
            found(server, jittered(true, rng), loss=sum(rng.random() < loss for _ in range(10)) / 10)
            for server, true in ((A, rtt), (B, rtt * 1.05))
        ]
        chosen = ranking.update(results, float(turn))
        moves += last is not None and chosen.primary != last
        last = chosen.primary
    assert moves == 0


def test_one_that_is_clearly_better_is_moved_to_soon() -> None:
    rng = random.Random(1)
    ranking = Ranking()
    ranking.update([found(A, 50), found(B, 60)], 0.0)
    for turn in range(20):
        chosen = ranking.update([found(A, jittered(50, rng)), found(B, jittered(25, rng))], float(turn))
        if chosen.primary == B:
            break
    assert turn < 10


# --- staying and moving -----------------------------------------------------------------------------------------------


def after(*, current: tuple[float, float], other: tuple[float, float]) -> RelayServer:
    """Who is primary when A was, by (round trip, loss) of A and B."""
    previous = Selection(A, B, 1.0, ())
    return rank([found(A, current[0], loss=current[1]), found(B, other[0], loss=other[1])], previous=previous).primary


@pytest.mark.parametrize(
    ("current", "other", "stays"),
    [
        ((50, 0), (41, 0), True),
        ((50, 0), (39, 0), False),
        ((151, 0), (140, 0), True),  # poor, and the other is hardly better
        ((160, 0), (135, 0), False),
        ((149, 0), (125, 0), True),
        ((50, 0.03), (42, 0.02), False),
        ((50, 0.05), (120, 0), False),  # it loses packets, and the other does not
        ((50, 0.05), (400, 0), True),  # ... but it is far
        ((50, 0.02), (60, 0), True),
        ((50, 0), (20, 0.2), True),
    ],
)
def test_the_current_one_stays_unless_another_is_clearly_better(
    current: tuple[float, float], other: tuple[float, float], stays: bool
) -> None:
    assert after(current=current, other=other) == (A if stays else B)


def test_one_that_is_gone_is_left() -> None:
    previous = Selection(A, B, 10.0, ())
    assert rank([dead(A), found(B, 90), found(C, 95)], previous=previous).primary == B


def test_udp_is_returned_to_when_it_works_again() -> None:
    tcp = relay("a.example.org", "tcp")
    ranking = Ranking()
    assert ranking.update([dead(A), found(tcp, 20)], 0.0).primary == tcp
    assert ranking.update([found(A, 30), found(tcp, 20)], 1.0).primary == A


def test_the_backup_stays_too() -> None:
    previous = Selection(A, B, 20.0, ())
    assert rank([found(A, 20), found(B, 50), found(C, 45)], previous=previous).backup == B
    assert rank([found(A, 20), found(B, 50), found(C, 39)], previous=previous).backup == C


def test_a_working_transport_is_remembered_until_it_fails() -> None:
    tcp, tls = relay("a.example.org", "tcp"), relay("a.example.org", "tls")
    ranking = Ranking()
    relays = [A, tcp, tls, B]
    assert ranking.worth_probing(relays) == relays
    ranking.update([dead(A), dead(tcp), found(tls, 20), found(B, 90)], 0.0)
    assert ranking.worth_probing(relays) == [tls, B]
    ranking.update([dead(tls), found(B, 90)], 1.0)
    assert ranking.worth_probing(relays) == relays


# --- bans -------------------------------------------------------------------------------------------------------------


def test_a_banned_relay_is_left_out_until_the_ban_is_over() -> None:
    ranking = Ranking()
    results = [found(A, 10), found(B, 50)]
    ranking.update(results, 0.0)
    ranking.bans.failed(A, 0.0)
    assert ranking.update(results, FIRST_BAN - 1).primary == B
    assert ranking.selection is not None
    assert ranking.selection.backup is None
    assert ranking.update(results, FIRST_BAN + 1).primary == A


def test_when_all_are_banned_the_best_is_better_than_none() -> None:
    bans = Bans()
    bans.failed(A, 0.0)
    bans.failed(B, 0.0)
    assert rank([found(A, 10), found(B, 50)], bans=bans, now=1.0).primary == A


def test_a_ban_that_is_lifted_is_over_and_the_next_one_longer_all_the_same() -> None:
    bans = Bans()
    bans.lift(A, 0.0)
    assert bans.next_end([A, B], 0.0) == float("inf")
    bans.failed(A, 0.0)
    bans.failed(B, 5.0)
    assert bans.next_end([A, B], 6.0) == FIRST_BAN
    assert bans.next_end([B], 6.0) == 5.0 + FIRST_BAN
    bans.lift(A, 10.0)
    assert not bans.banned(A, 10.0)
    assert bans.failed(A, 11.0) == 2 * FIRST_BAN


def test_bans_grow_to_half_an_hour_and_are_forgotten_after_another() -> None:
    bans, now, lengths = Bans(), 0.0, []
    for _ in range(8):
        lengths.append(bans.failed(A, now))
        now += lengths[-1]
        assert not bans.banned(A, now)
        assert bans.banned(A, now - 0.1)
    assert lengths == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert bans.failed(A, now + LONGEST_BAN + 1) == FIRST_BAN


def test_a_failure_noticed_twice_is_one_failure() -> None:
    bans = Bans()
    assert bans.failed(A, 0.0) == 30
    assert bans.failed(A, 10.0) == 20
    assert bans.failed(A, 30.0) == 60


# --- whatever is measured ---------------------------------------------------------------------------------------------

SERVERS = [relay(f"{name}.example.org", transport) for name in "abc" for transport in ("udp", "tcp", "tls")]
RESULTS = st.lists(
    st.builds(
        found,
        st.sampled_from(SERVERS),
        st.floats(0.01, 10_000),
        loss=st.floats(0, 0.99),
        verdict=st.sampled_from([Verdict.OK, Verdict.LOSSY, Verdict.UNCHECKED, Verdict.NO_FORWARDING, Verdict.TIMEOUT]),
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(RESULTS, min_size=1, max_size=4))
def test_the_choice_is_always_usable_and_the_table_complete(rounds: list[list[ProbeResult]]) -> None:
    ranking = Ranking()
    for now, results in enumerate(rounds):
        usable = {result.server for result in results if result.usable}
        try:
            chosen = ranking.update(results, float(now))
        except NoRelay:
            assert not usable
            continue
        assert chosen.primary in usable
        assert chosen.backup != chosen.primary
        assert chosen.backup is None or chosen.backup in usable
        assert sorted(result.server.name for result in chosen.table) == sorted(result.server.name for result in results)
