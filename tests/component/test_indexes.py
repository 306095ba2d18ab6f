"""No query of ours makes the database read through a collection.

What the tests of a run have made the server ask is judged when all the others are over (`conftest`), so the more
of them run, the more this says.
"""

import pytest

from ml_repository.database import Database
from ml_repository.registrations import Registrations
from ml_repository.repository import INDEXES
from tests.support import START
from tests.support_commands import SEEN, Query, unindexed

WHOLE = {
    "oauth_clients": "the operator's list of all clients",
}
"""Collections that are read as a whole, without any condition, on purpose."""


@pytest.fixture
async def indexed(database: Database) -> Database:
    """A database with every collection and index of the repository."""
    await database.ensure_indexes(INDEXES)
    for collection in {query.collection for query in SEEN} - set(await database.db.list_collection_names()):
        await database.db.create_collection(collection)
    return database


@pytest.mark.last
async def test_every_query_has_an_index(indexed: Database) -> None:
    """Each shape of query that our code has sent in this run is answered by an index."""
    if not SEEN:
        pytest.skip("run it together with tests that use the database")
    bad = {}
    for query in list(SEEN):
        if query.example or query.collection not in WHOLE:
            bad[str(query)] = await unindexed(indexed, query)
    assert not {query: reason for query, reason in bad.items() if reason}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"_owner": "o"}, "no index begins with"),
        ({"regData.aimleClientId.valUeId": "u"}, "no index begins with"),
        ({"$or": [{"_id": "1"}, {"_owner": "o"}]}, "the plan is COLLSCAN"),
        ({}, "every document is read"),
        ({"_tags": "op:MODEL_TRAINING", "_owner": "o"}, ""),
        ({"_id": {"$in": ["1"]}, "_expires": {"$gt": START}}, ""),
    ],
)
async def test_a_query_without_index_is_found(
    indexed: Database, query: dict[str, object], reason: str
) -> None:
    """A filter is refused if its plan, and that of any of its parts that an index begins with, reads everything."""
    found = await unindexed(indexed, Query.of("registrations", "find", query))
    assert found.startswith(reason)
    assert bool(found) is bool(reason)


async def test_only_our_queries_count(database: Database) -> None:
    """What the server's code asks is noted, with its shape; what a test asks by itself is not."""
    await database["registrations"].find_one({"a test": 1})
    await Registrations(database).get("id", "owner", START)
    shapes = {query.shape for query in SEEN if query.collection == "registrations"}
    assert "{'_registration': '?', '_owner': '?', '_expires': {'$gt': '?'}}" in shapes
    assert not any("a test" in shape for shape in shapes)
