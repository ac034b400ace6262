"""What a pool wants, tries and gives up, at exact times and without any relay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import NoRelay, RelayTimeout
from relaycall.relays.keeping import ROUND, Condition, Hold, Keeping
from relaycall.relays.probe_result import ProbeResult, Verdict, failed
from relaycall.relays.ranking import FIRST_BAN, LONGEST_BAN
from relaycall.relays.server import RelayServer

A, B, C, D = (RelayServer.parse(f"turn:{name}.test") for name in "abcd")


def measured(server: RelayServer, rtt: float) -> ProbeResult:
    return ProbeResult(server, Verdict.OK, "ipv4", rtt_ms=rtt, rtt_min_ms=rtt, loss=0.0)


class Pool:
    """Keeping, with allocations that are texts, and an account of what is under way."""

    def __init__(self, *relays: RelayServer, keep: int = 2) -> None:
        self.keeping: Keeping[str] = Keeping(relays, keep, 0.0)
        self.trying: list[RelayServer] = []
        self._number = 0

    def tries(self, now: float) -> list[RelayServer]:
        tried = self.keeping.to_try(now, self.trying)
        self.trying += tried
        return tried

    def grant(self, server: RelayServer, now: float = 0.0) -> Hold[str] | None:
        self.trying.remove(server)
        self._number += 1
        return self.keeping.granted(server, f"{server.host}/{self._number}", now)

    def refuse(self, server: RelayServer, now: float) -> bool:
        self.trying.remove(server)
        return self.keeping.refused(server, now)

    def hold(self, server: RelayServer) -> Hold[str]:
        return next(hold for hold in self.keeping.holds if hold.server == server)

    def held(self) -> list[RelayServer]:
        return [hold.server for hold in self.keeping.holds]

    def given_up(self, now: float) -> list[RelayServer]:
        return [hold.server for hold in self.keeping.surplus(now)]


def running(*relays: RelayServer, keep: int = 2) -> Pool:
    """One that holds the first ones and is open."""
    pool = Pool(*relays, keep=keep)
    for server in pool.tries(0.0):
        pool.grant(server)
    pool.keeping.opened()
    assert pool.keeping.full
    return pool


# --- opening ----------------------------------------------------------------------------------------------------------


def test_at_first_as_many_are_tried_as_are_wanted_and_the_others_stand_in() -> None:
    pool = Pool(A, B, C, D)
    assert pool.tries(0.0) == [A, B]
    assert pool.tries(0.0) == []
    pool.refuse(A, 0.1)
    assert pool.tries(0.1) == [C]
    pool.grant(C, 0.2)
    assert not pool.keeping.full
    pool.grant(B, 0.3)
    assert pool.keeping.full
    assert [hold.server for hold in pool.keeping.ordered] == [B, C]


def test_while_opening_all_are_tried_after_a_second_but_none_twice() -> None:
    pool = Pool(A, B, C, keep=1)
    assert pool.tries(0.0) == [A]
    assert pool.keeping.next_timeout(0.0) == ROUND
    assert pool.tries(ROUND) == [B, C]
    pool.refuse(B, ROUND)
    assert pool.tries(2 * ROUND) == []


# --- while one works --------------------------------------------------------------------------------------------------


def test_what_is_lost_is_replaced_and_its_relay_tried_again_when_its_ban_ends() -> None:
    pool = running(A, B, C)
    pool.keeping.lost(pool.hold(A), 10.0)
    assert pool.tries(10.0) == [C]
    pool.refuse(C, 11.0)
    assert pool.tries(11.0) == []
    assert pool.keeping.next_timeout(11.0) == 10.0 + FIRST_BAN
    assert pool.tries(10.0 + FIRST_BAN) == [A]
    pool.refuse(A, 10.0 + FIRST_BAN)
    assert pool.keeping.next_timeout(10.0 + FIRST_BAN) == 11.0 + FIRST_BAN
    assert pool.keeping.ranking.bans.banned(A, 10.0 + 2.9 * FIRST_BAN)


def test_one_that_works_ends_its_ban_and_a_later_ban_is_longer_all_the_same() -> None:
    pool = running(A, B)
    pool.keeping.lost(pool.hold(A), 10.0)
    assert pool.tries(10.0 + FIRST_BAN) == [A]
    pool.grant(A, 10.0 + FIRST_BAN)
    pool.keeping.lost(pool.hold(A), 50.0)
    assert pool.tries(50.0 + 1.9 * FIRST_BAN) == []
    assert pool.tries(50.0 + 2 * FIRST_BAN) == [A]


def test_who_holds_stays_when_a_relay_before_it_in_the_list_is_back() -> None:
    pool = running(A, B, C)
    pool.keeping.lost(pool.hold(A), 0.0)
    assert pool.tries(0.0) == [C]
    pool.grant(C)
    assert pool.tries(2 * LONGEST_BAN) == []
    assert pool.keeping.next_timeout(0.0) == float("inf")


def test_one_that_comes_too_late_is_not_taken() -> None:
    pool = running(A, B, C)
    pool.trying = [C, A]
    assert pool.grant(C) is None
    assert pool.grant(A) is None
    pool.trying = [A]
    assert not pool.refuse(A, 0.0), "it has given one meanwhile: this is no failure"
    assert not pool.keeping.ranking.bans.banned(A, 0.0)


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_failing_one_is_replaced_on_another_relay_and_then_given_up() -> None:
    pool = running(A, B, C)
    pool.keeping.failing(pool.hold(A), 0.0)
    pool.keeping.failing(pool.hold(A), 5.0)  # said twice
    assert pool.tries(0.0) == [C]
    assert pool.given_up(0.0) == []
    pool.grant(C)
    assert pool.given_up(0.0) == [A]
    assert pool.held() == [B, C]


def test_a_failing_one_is_kept_when_there_is_no_other() -> None:
    pool = running(A, B)
    pool.keeping.failing(pool.hold(A), 0.0)
    assert pool.tries(0.0) == []
    assert pool.given_up(0.0) == []
    assert pool.tries(FIRST_BAN) == [A]
    pool.refuse(A, FIRST_BAN)
    assert pool.given_up(FIRST_BAN) == []
    assert pool.tries(3 * FIRST_BAN) == [A]
    old = pool.hold(A)
    pool.grant(A, 3 * FIRST_BAN)
    assert pool.keeping.surplus(3 * FIRST_BAN) == [old]


def test_when_all_are_failing_every_relay_is_tried_each_second_banned_or_under_way() -> None:
    pool = running(A, B, C)
    for server in (A, B):
        pool.keeping.failing(pool.hold(server), 10.0)
    assert pool.tries(10.0) == [A, B, C]
    assert pool.keeping.next_timeout(10.0) == 10.0 + ROUND
    assert pool.tries(10.0 + ROUND / 2) == []
    assert pool.tries(10.0 + ROUND) == [A, B, C]
    pool.grant(C, 11.5)
    assert pool.given_up(11.5) == [A], "of two that fail, as many go as have been replaced"
    assert pool.tries(11.5) == []
    pool.grant(A, 11.6)
    assert pool.given_up(11.6) == [B]
    assert pool.keeping.full


# --- nothing held -----------------------------------------------------------------------------------------------------


def test_holding_nothing_all_are_tried_at_once_and_then_each_second() -> None:
    pool = running(A, B, C)
    for server in (A, B):
        pool.keeping.lost(pool.hold(server), 10.0)
    for second in range(12):
        now = 10.0 + second * ROUND
        assert pool.keeping.next_timeout(now) <= now
        assert pool.tries(now) == [A, B, C]
        for server in (A, B, C):
            pool.refuse(server, now)
    pool.trying = [B]
    pool.grant(B, 23.0)
    assert pool.tries(23.0) == []
    assert not pool.keeping.ranking.bans.banned(B, 23.0)


# --- moved and expiring -----------------------------------------------------------------------------------------------


def test_when_the_machine_moved_the_same_relays_are_used_without_a_ban() -> None:
    pool = running(A, B, C)
    pool.keeping.moved(pool.hold(A))
    assert pool.tries(0.0) == [A]
    old = pool.hold(A)
    pool.keeping.lost(old, 0.1)  # which is its end, not its relay's fault
    pool.grant(A, 0.1)
    assert pool.held() == [B, A]
    for server in (A, B):
        pool.keeping.moved(pool.hold(server))
    assert pool.tries(9.0) == [A, B, C], "nothing works"


def test_new_credentials_replace_each_on_its_own_relay() -> None:
    own = RelayServer.parse("turn:own.test", username="user", password="password")
    pool = running(A, B, own, D, keep=3)
    pool.keeping.renewed()
    assert pool.tries(0.0) == [A, B]
    pool.grant(B)
    assert pool.given_up(0.0) == [B]
    assert pool.held() == [A, own, B]
    pool.grant(A)
    assert pool.given_up(0.0) == [A]
    assert all(hold.condition is Condition.SOUND for hold in pool.keeping.holds)


def test_one_that_cannot_be_renewed_is_kept_or_replaced_elsewhere() -> None:
    alone = running(A, keep=1)
    alone.keeping.renewed()
    assert alone.tries(0.0) == [A]
    alone.refuse(A, 0.0)
    assert alone.given_up(0.0) == []
    assert alone.tries(FIRST_BAN / 2) == [], "it works, so nothing is urgent"
    assert alone.keeping.next_timeout(0.0) == FIRST_BAN
    pool = running(A, B, C)
    pool.keeping.renewed()
    pool.tries(0.0)
    pool.refuse(A, 0.0)
    assert pool.tries(0.0) == [C]
    pool.grant(B)
    pool.grant(C)
    assert pool.given_up(0.0) == [B, A]


def test_when_the_one_in_the_way_ends_its_relay_is_free_at_once() -> None:
    pool = running(A, B)
    pool.keeping.renewed()
    pool.tries(0.0)
    pool.grant(B)
    pool.refuse(A, 0.0)
    assert pool.given_up(0.0) == [B]
    pool.keeping.lost(pool.hold(A), 5.0)
    assert pool.tries(5.0) == [A]


# --- measured ---------------------------------------------------------------------------------------------------------


def chosen(pool: Pool) -> list[RelayServer]:
    selection = pool.keeping.ranking.selection
    assert selection is not None
    return [server for server in (selection.primary, selection.backup) if server is not None]


def opened(*results: ProbeResult) -> Pool:
    pool = Pool(A, B, C, D)
    pool.keeping.measured(results, 0.0)
    for server in pool.tries(0.0):
        pool.grant(server)
    pool.keeping.opened()
    return pool


def test_the_order_of_arrival_does_not_choose() -> None:
    pool = Pool(A, B, C)
    pool.keeping.measured([measured(A, 20), measured(B, 19), measured(C, 90)], 0.0)
    assert pool.tries(0.0) == [B, A]
    pool.grant(A)
    assert pool.tries(0.0) == []
    assert chosen(pool) == [B, A]
    pool.grant(B)
    assert [hold.server for hold in pool.keeping.ordered] == [B, A]


def test_the_backup_takes_over_and_the_next_best_is_tried() -> None:
    pool = opened(measured(A, 10), measured(B, 20), measured(C, 30), measured(D, 15))
    assert pool.held() == [A, D]
    pool.keeping.lost(pool.hold(A), 1.0)
    assert pool.tries(1.0) == [B]
    assert chosen(pool) == [D, B]
    pool.grant(B, 1.0)
    assert pool.tries(1.0 + FIRST_BAN) == [], "while two are held nothing is chosen by old measurements"


def test_the_backup_that_is_held_is_the_best_at_once_though_another_is_a_little_nearer() -> None:
    near, nearer, other = (replace(server, operator=name) for server, name in ((C, "one"), (A, "one"), (B, "two")))
    pool = Pool(near, nearer, other)
    pool.keeping.measured([measured(nearer, 10), measured(near, 30), measured(other, 33)], 0.0)
    for server in pool.tries(0.0):
        pool.grant(server)
    pool.keeping.opened()
    assert chosen(pool) == [nearer, other]
    pool.keeping.lost(pool.hold(nearer), 1.0)
    assert pool.tries(1.0) == [near]
    assert chosen(pool) == [other, near]


def test_a_clearly_better_one_is_added_before_what_it_replaces_is_given_up() -> None:
    pool = opened(measured(A, 100), measured(B, 110), measured(C, 300))
    pool.keeping.measured([measured(A, 100), measured(B, 110), measured(D, 10)], 300.0)
    assert pool.given_up(300.0) == []
    assert pool.tries(300.0) == [D]
    pool.grant(D, 300.0)
    assert pool.given_up(300.0) == [A], "the backup stays the backup"
    assert pool.held() == [B, D]


def test_of_two_measured_relays_the_failing_one_is_kept_until_its_ban_ends() -> None:
    pool = opened(measured(A, 10), measured(B, 20))
    pool.keeping.failing(pool.hold(A), 1.0)
    assert pool.tries(1.0) == []
    assert pool.given_up(1.0) == []
    assert pool.keeping.next_timeout(1.0) == 1.0 + FIRST_BAN
    assert pool.tries(1.0 + FIRST_BAN) == [A]


def test_what_was_never_measured_is_good_enough_when_nothing_works_until_a_chosen_one_is_back() -> None:
    pool = opened(measured(A, 10), measured(B, 20))
    for server in (A, B):
        pool.keeping.lost(pool.hold(server), 5.0)
    assert pool.tries(5.0) == [A, B, C, D]
    pool.refuse(A, 5.0)
    pool.refuse(B, 5.0)
    pool.grant(D, 5.0)
    assert pool.given_up(5.0) == []
    assert pool.tries(5.0 + FIRST_BAN) == [A, B]
    pool.grant(A, 40.0)
    assert pool.given_up(40.0) == []
    pool.grant(B, 40.0)
    assert pool.given_up(40.0) == [D]


def test_without_a_second_usable_relay_one_is_enough() -> None:
    pool = opened(measured(A, 10), failed(B, RelayTimeout(B.name)))
    assert pool.keeping.full
    assert pool.keeping.known(A) is not None
    assert pool.keeping.known(D) is None
    with pytest.raises(NoRelay):
        pool.keeping.measured([failed(A, RelayTimeout(A.name))], 1.0)
    assert chosen(pool) == [A]


# --- whatever happens -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["grant", "refuse", "lost", "failing", "moved", "renewed", "wait"]), st.integers(0, 5)),
    max_size=60,
)


@given(STEPS, st.integers(1, 4), st.booleans())
def test_whatever_happens_what_works_is_not_given_up_for_less(
    steps: list[tuple[str, int]], keep: int, by_measurement: bool
) -> None:
    """Never are more held than twice what is wanted; and giving up leaves as many that work as there can be."""
    pool = Pool(A, B, C, D, keep=2 if by_measurement else keep)
    keeping = pool.keeping
    if by_measurement:
        keeping.measured([measured(server, rtt) for server, rtt in zip((A, B, C), (10, 20, 30), strict=True)], 0.0)
    now = 0.0
    keeping.opened()
    for what, number in steps:
        hold = keeping.holds[number % len(keeping.holds)] if keeping.holds else None
        if what == "wait":
            now += (0.1, 1.0, 5.0, 30.0, 60.0, 600.0)[number]
        elif what == "renewed":
            keeping.renewed()
        elif what in ("grant", "refuse") and pool.trying:
            server = pool.trying[number % len(pool.trying)]
            if what == "grant":
                pool.grant(server, now)
            else:
                pool.refuse(server, now)
        elif what == "lost" and hold is not None:
            keeping.lost(hold, now)
        elif what == "failing" and hold is not None:
            keeping.failing(hold, now)
        elif what == "moved" and hold is not None:
            keeping.moved(hold)
        working = {one.server for one in keeping.holds if one.condition <= Condition.EXPIRING}
        keeping.surplus(now)
        left = {one.server for one in keeping.holds if one.condition <= Condition.EXPIRING}
        assert len(left) >= min(len(working), keeping.count)
        assert len(keeping.holds) <= keeping.count
        sound = [one.server for one in keeping.holds if one.condition is Condition.SOUND]
        assert len(set(sound)) == len(sound)
        pool.trying = (pool.trying + keeping.to_try(now, pool.trying))[-20:]
        assert keeping.full or pool.trying or keeping.next_timeout(now) < float("inf"), "it waits for nothing"
