"""For tests of an app of your own: two phones that can call each other, and a network that can be bad.

    async with local_pair() as (alice, bob):
        call = await alice.call("bob", audio=ToneSource())

All of it is in this process, on loopback, and gone in the end. pytest is not needed; as a fixture of it:

    @pytest_asyncio.fixture
    async def phones():
        async with local_pair() as pair:
            yield pair
"""

from relaycall.store.memory import MemoryStore
from relaycall.testing.conditions import Conditions, Fate, Schedule
from relaycall.testing.link import Link
from relaycall.testing.lossy import LossyProxy, lossy_link, lossy_network
from relaycall.testing.pair import embedded_relay, local_pair
from relaycall.testing.profiles import Profile, profile

__all__ = [
    "Conditions",
    "Fate",
    "Link",
    "LossyProxy",
    "MemoryStore",
    "Profile",
    "Schedule",
    "embedded_relay",
    "local_pair",
    "lossy_link",
    "lossy_network",
    "profile",
]
