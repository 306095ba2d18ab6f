"""The listener for news of trainings: what it takes, what it drops, and whom it tells nothing."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from aimle_client.events import MemberChange
from aimle_client.listener import CAPACITY, NotificationListener


@pytest.fixture
async def listener() -> AsyncIterator[NotificationListener]:
    """A listener on a free port."""
    async with NotificationListener(("127.0.0.1", 0)) as opened:
        yield opened


async def post(url: str, body: Any) -> tuple[int, Any, str | None]:
    """Status, JSON and Retry-After of the answer to a notification; bytes are sent as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=raw, headers=headers) as response,
    ):
        text = await response.read()
        return response.status, json.loads(text) if text else None, response.headers.get("Retry-After")


def progress(number: int) -> dict[str, Any]:
    """News of a committed round."""
    return {
        "trainingID": "t-1",
        "percentageComp": number,
        "trainOut": {"modelAccuracy": 80, "modelRecall": 0.75},
        "aimle": {"round": number, "evaluatedRound": number - 1, "metrics": {"accuracy": 0.8012}},
    }


END = {
    "trainingID": "t-1",
    "percentageComp": 100,
    "trainErr": "UNDERFITTING",
    "aimle": {"state": "COMPLETED", "reason": "enough", "outputModelId": "digits.t-1", "metrics": {}},
}


async def test_a_notification_becomes_an_event(listener: NotificationListener) -> None:
    """Whatever the standard's attributes and ours say stands in the event."""
    mailbox = listener.open()
    assert await post(mailbox.url, progress(2)) == (204, None, None)
    event = await mailbox.get()
    assert (event.training_id, event.percentage, event.round, event.evaluated_round) == ("t-1", 2, 2, 1)
    assert event.output == {"modelAccuracy": 80, "modelRecall": 0.75}
    assert event.metrics == {"accuracy": 0.8012}
    assert (event.state, event.terminal) == (None, False)
    await post(mailbox.url, END)
    last = await mailbox.get()
    assert (last.state, last.reason, last.error) == ("COMPLETED", "enough", "UNDERFITTING")
    assert last.output_model_id == "digits.t-1"
    assert last.terminal


async def test_members_that_come_and_go(listener: NotificationListener) -> None:
    """A change of members is an event of its own."""
    mailbox = listener.open()
    members = [
        {"clientSel": True, "clientUri": "http://a.example"},
        {"clientSel": False, "clientUri": "http://b.example"},
    ]
    await post(mailbox.url, {"trainingID": "t-1", "members": members})
    event = await mailbox.get()
    assert event.members == (MemberChange("http://a.example", True), MemberChange("http://b.example", False))
    assert event.percentage is None


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"percentageComp": 99}, None),
        ({"percentageComp": 100}, "COMPLETED"),
        ({"percentageComp": 40, "trainErr": "OVERFITTING"}, "FAILED"),
    ],
)
async def test_a_server_that_knows_only_the_standard(
    listener: NotificationListener, body: dict[str, Any], state: str | None
) -> None:
    """Without our part of the notification the end is told from the percentage or the error."""
    mailbox = listener.open()
    await post(mailbox.url, body)
    assert (await mailbox.get()).state == state


async def test_what_is_delivered_again_is_one_event(listener: NotificationListener) -> None:
    """The same notification twice in a row is taken twice and seen once; the next one is seen again."""
    mailbox = listener.open()
    for body in (progress(1), progress(1), progress(2), END, END):
        assert (await post(mailbox.url, body))[0] == 204
    seen = [await mailbox.get() for _ in range(3)]
    assert [event.percentage for event in seen] == [1, 2, 100]
    assert mailbox.empty


async def test_nothing_follows_the_end(listener: NotificationListener) -> None:
    """A late notification of a training that has ended is taken, so that it stops coming, and dropped."""
    mailbox = listener.open()
    await post(mailbox.url, END)
    assert (await post(mailbox.url, progress(3)))[0] == 204
    await mailbox.get()
    assert mailbox.ended
    assert mailbox.empty


async def test_trainings_do_not_hear_of_each_other(listener: NotificationListener) -> None:
    """Each training has an address of its own, and only its own news."""
    one, other = listener.open(), listener.open()
    assert one.url != other.url
    await post(other.url, progress(5))
    assert one.empty
    assert (await other.get()).percentage == 5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"percentageComp": 101}, "/percentageComp"),
        ({"members": [{"clientUri": "not a URI"}]}, "/members/0/clientUri"),
        ({"percentageComp": 1, "aimle": {"metrics": {"accuracy": "high"}}}, "/aimle/metrics/accuracy"),
        ({"percentageComp": 1, "aimle": {"round": -1}}, "/aimle/round"),
    ],
)
async def test_a_wrong_notification_is_refused_by_name(
    listener: NotificationListener, body: dict[str, Any], param: str
) -> None:
    """400 with the wrong attribute; nothing reaches the application."""
    mailbox = listener.open()
    status, problem, _ = await post(mailbox.url, body)
    assert status == 400
    assert [wrong["param"] for wrong in problem["invalidParams"]] == [param]
    assert mailbox.empty


async def test_what_is_no_json_is_refused(listener: NotificationListener) -> None:
    """400, and the listener goes on."""
    mailbox = listener.open()
    assert (await post(mailbox.url, b"{"))[0] == 400
    assert (await post(mailbox.url, progress(1)))[0] == 204


async def test_an_unknown_address_has_nobody(listener: NotificationListener) -> None:
    """A guessed key, and one whose mailbox is closed, get the same 404."""
    mailbox = listener.open()
    guessed = mailbox.url.rpartition("/")[0] + "/guess"
    listener.close(mailbox)
    answers = [await post(url, progress(1)) for url in (guessed, mailbox.url)]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


async def test_an_application_that_does_not_read_slows_the_server_down(
    listener: NotificationListener,
) -> None:
    """When no more can be kept the sender is told to come again, and then nothing was lost."""
    mailbox = listener.open()
    for number in range(CAPACITY):
        mailbox.put({"percentageComp": number % 100})
    status, _, retry_after = await post(mailbox.url, END)
    assert (status, retry_after) == (503, "5")
    await mailbox.get()
    assert (await post(mailbox.url, END))[0] == 204
    assert mailbox.ended


async def test_the_addresses_that_are_given_out() -> None:
    """They begin with `callback_url` where there is one, and with the real port otherwise."""
    async with NotificationListener(("127.0.0.1", 0), "https://val.example.com/aimle/") as behind_proxy:
        assert behind_proxy.open().url.startswith(
            "https://val.example.com/aimle/aimle-notifications/v1/trainings/"
        )
    async with NotificationListener(("127.0.0.1", 0)) as plain:
        url = plain.open().url
        assert url.startswith("http://127.0.0.1:")
        assert (await post(url, progress(1)))[0] == 204


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_wildcard_needs_an_address_to_give_out(host: str) -> None:
    """Nobody can call a wildcard address, so listening on one needs `callback_url`."""
    with pytest.raises(ValueError, match="callback_url"):
        NotificationListener((host, 0))
    NotificationListener((host, 0), "https://val.example.com")


async def test_a_port_that_is_taken(listener: NotificationListener) -> None:
    """It is an OSError, and nothing is left open."""
    port = int(listener.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        async with NotificationListener(("127.0.0.1", port)):
            pass


async def test_addresses_are_not_logged(
    listener: NotificationListener, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads the log cannot send notifications."""
    caplog.set_level(logging.DEBUG)
    mailbox = listener.open()
    await post(mailbox.url, progress(1))
    await post(mailbox.url, {"percentageComp": "?"})
    assert mailbox.url.rpartition("/")[2] not in caplog.text


async def test_waiting_for_the_next_event(listener: NotificationListener) -> None:
    """Whoever waits is woken by the notification."""
    mailbox = listener.open()
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    await post(mailbox.url, progress(7))
    assert (await waiting).percentage == 7
