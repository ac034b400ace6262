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
from relaycall.testing.lossy import Conditions, LossyProxy, lossy_link
from relaycall.testing.pair import embedded_relay, local_pair

__all__ = ["Conditions", "LossyProxy", "MemoryStore", "embedded_relay", "local_pair", "lossy_link"]
