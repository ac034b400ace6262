"""Networks people really are in, to be named: `profile("3g")`.

Each is the way between one person and their relays: "up" is what they send, "down" what they get. Rates count whole IP
packets. Where no source is named the figure is a choice of ours, made to be bad in the way such a network is bad.
"""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.errors import ConfigError
from relaycall.testing.conditions import Conditions, Schedule

ONCE_AND_FOR_ALL = Schedule(())


@dataclass(frozen=True)
class Profile:
    """A network: how it is at first, and how it changes.

    Attributes:
        name: as in `profile(name)`; a word of the command line.
        about: what it is, in one sentence.
        up, down: the conditions at first, of what the person sends and of what they get.
        up_schedule, down_schedule: how they change.
    """

    name: str
    about: str
    up: Conditions
    down: Conditions
    up_schedule: Schedule = ONCE_AND_FOR_ALL
    down_schedule: Schedule = ONCE_AND_FOR_ALL

    @property
    def round_trip(self) -> float:
        """Seconds from the person to the relay and back, at first and at best."""
        return self.up.delay + self.down.delay


def _good() -> Profile:
    """Fibre at home, and a relay in the same country.

    20 and 5 Mbit/s are WebPageTest's "FIOS"; 20 ms of round trip and 2 ms of jitter are ours.
    """
    return Profile(
        "good",
        "Fibre at home: 20 ms of round trip, and room for everything.",
        up=Conditions(delay=0.01, jitter=0.002, rate=5_000_000),
        down=Conditions(delay=0.01, jitter=0.002, rate=20_000_000),
    )


def _3g() -> Profile:
    """A phone in a cell of the third generation, which others come into from time to time.

    1.6 Mbit/s and 768 kbit/s with 300 ms of round trip are WebPageTest's "3G"; 0.5 % of loss and about 50 ms of jitter
    are Loadero's. Radio repeats what it loses and keeps the order. That queues are far too long in such networks was
    measured (Jiang et al., "Understanding bufferbloat in cellular networks", 2012); 1 s, and the busy cell, are ours.
    """
    air = Conditions(delay=0.15, jitter=0.05, loss=0.005, queue=1.0)
    return Profile(
        "3g",
        "A phone on 3G: 300 ms of round trip, and a quarter of the rate for 5 s in every 20.",
        up=air.changed({"rate": 768_000}),
        down=air.changed({"rate": 1_600_000}),
        up_schedule=Schedule([(0.0, {"rate": 768_000}), (5.0, {"rate": 192_000}), (10.0, {"rate": 768_000})], 20.0),
        down_schedule=Schedule(
            [(0.0, {"rate": 1_600_000}), (5.0, {"rate": 400_000}), (10.0, {"rate": 1_600_000})], 20.0
        ),
    )


def _lossy_wifi() -> Profile:
    """Two walls from the access point, with a microwave oven next to it.

    Loss on 802.11 comes in bursts; on 802.11g their lengths had an even longer tail than Gilbert's and Elliott's model
    gives them (Carvalho et al., "A new packet loss model of the IEEE 802.11g wireless network", 2005). The figures are
    ours: 1 % lost by itself and 2.6 % in bursts; while the oven runs, 11 % in bursts.
    """
    air = Conditions(
        delay=0.01,
        jitter=0.02,
        loss=0.01,
        burst_enter=0.01,
        burst_leave=0.3,
        burst_loss=0.8,
        rate=10_000_000,
        reorder=0.005,
    )
    oven = Schedule([(0.0, {"burst_enter": 0.01}), (5.0, {"burst_enter": 0.05}), (8.0, {"burst_enter": 0.01})], 15.0)
    return Profile(
        "lossy-wifi",
        "Weak Wi-Fi: 3 to 4 % are lost, mostly in bursts, and more than 10 % for 3 s in every 15.",
        up=air,
        down=air,
        up_schedule=oven,
        down_schedule=oven,
    )


def _congested() -> Profile:
    """A shared DSL line with a large buffer, in which others upload from time to time (bufferbloat).

    1.5 Mbit/s and 384 kbit/s with 50 ms of round trip are WebPageTest's "DSL". What the others take is ours: they leave
    less than half of the rate, and their packets stand in the queue before ours, which is a longer and uneven delay,
    and now and then a full queue.
    """
    busy = {"delay": 0.15, "jitter": 0.06, "loss": 0.02}
    quiet = {"delay": 0.025, "jitter": 0.005, "loss": 0.0}
    line = Conditions(queue=1.0).changed(quiet)

    def shared(whole: int, left: int) -> Schedule:
        return Schedule([(0.0, {**quiet, "rate": whole}), (5.0, {**busy, "rate": left})], 15.0)

    return Profile(
        "congested",
        "DSL that others fill for 10 s in every 15: then 300 ms of round trip, and 150 kbit/s to send.",
        up=line.changed({"rate": 384_000}),
        down=line.changed({"rate": 1_500_000}),
        up_schedule=shared(384_000, 150_000),
        down_schedule=shared(1_500_000, 500_000),
    )


def _satellite() -> Profile:
    """A satellite in geostationary orbit.

    36,000 km up, down and back make 480 ms at least; such services have about 600 ms of round trip. 25 and 3 Mbit/s and
    30 ms of jitter are what ViaSat named to the FCC as fit for voice in 2015. 0.5 % of loss is ours.
    """
    air = Conditions(delay=0.3, jitter=0.03, loss=0.005)
    return Profile(
        "satellite",
        "A geostationary satellite: 600 ms of round trip.",
        up=air.changed({"rate": 3_000_000}),
        down=air.changed({"rate": 25_000_000}),
    )


def _tor() -> Profile:
    """Three volunteers' machines between the person and the relay.

    The figures are ours. Tor carries streams only: nothing is lost or reordered, but all of it stalls when one of the
    three is busy. The true thing needs TCP to the relay; over UDP this is what its delays would be.
    """
    slow, quick = {"delay": 0.45}, {"delay": 0.15}
    circuit = Conditions(delay=0.15, jitter=0.08, rate=2_000_000, queue=1.0)
    stalls = Schedule([(0.0, quick), (5.0, slow), (6.0, quick)], 10.0)
    return Profile(
        "tor",
        "A circuit of Tor: 300 ms of round trip, and twice 300 ms more for 1 s in every 10.",
        up=circuit,
        down=circuit,
        up_schedule=stalls,
        down_schedule=stalls,
    )


PROFILES = {made.name: made for made in (_good(), _3g(), _lossy_wifi(), _congested(), _satellite(), _tor())}


def profile(name: str) -> Profile:
    """The network of this name: good, 3g, lossy-wifi, congested, satellite or tor.

    Raises:
        ConfigError: there is none; it says which there are.
    """
    found = PROFILES.get(name)
    if found is None:
        raise ConfigError("There is no network profile of this name.", f"The profiles are {', '.join(PROFILES)}.")
    return found
