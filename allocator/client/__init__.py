"""What a Python matchmaker imports: a match goes in, an address to play on comes out.

    async with AllocatorClient("redis://127.0.0.1:6379") as client:
        allocation = await client.allocate({"id": "m-1", "image": "my-game", "regions": ["europe", "us-east"]})
        print(allocation.state, allocation.endpoint)

    client     submit, take_up, get, wait, allocate, cancel, over one connection
    partitions how many partitions the namespace has; `shares` what is held of each
    outbox     a request checked, then sent: what one turn of the loop submits goes out in one round trip
    listener   one reader of the results stream for all that wait
    waiter     one wait: what answers it, and what does not
    errors     what goes wrong between a matchmaker and the allocator

It stands on the public contract alone: what it does, `redis-cli` can do, and it needs no worker to be of its version.
"""

from allocator.client.client import AllocatorClient, Receipt
from allocator.client.errors import InvalidRequestError, RefusedError, UnreadableAnswerError, not_known
from allocator.contract.allocation import Allocation, State
from allocator.contract.request import AllocationRequest, Priority
from allocator.redis_io.errors import RedisFault, Unavailable

__all__ = [
    "Allocation",
    "AllocationRequest",
    "AllocatorClient",
    "InvalidRequestError",
    "Priority",
    "Receipt",
    "RedisFault",
    "RefusedError",
    "State",
    "Unavailable",
    "UnreadableAnswerError",
    "not_known",
]
