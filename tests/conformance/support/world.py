"""What a test has: the server's consumers, a listener that the server can call, and AIMLE clients."""

from dataclasses import dataclass, field, replace

import pytest

from support.aimle_client import AimleClient
from support.background import Background
from support.consumer import Consumer
from support.documents import Documents
from support.listener import Inbox, Listener
from support.report import Report


@dataclass(repr=False)
class World:
    """The server under test as everybody around it sees it.

    Attributes:
        val: the consumer that most requests come from.
        second: one that may not touch the resources of `val`; None: the operator named none.
        model: bytes of a model that the server can have trained.
        at_client: `val` at the AIMLE client under test; None: the operator named none.
    """

    documents: Documents
    report: Report
    background: Background
    listener: Listener
    val: Consumer
    second: Consumer | None
    model: bytes
    at_client: Consumer | None
    _clients: list[AimleClient] = field(default_factory=list)
    _inboxes: list[Inbox] = field(default_factory=list)

    @property
    def other(self) -> Consumer:
        """Another consumer; the test is not run where the operator gave only one."""
        if self.second is None:
            pytest.skip("not run: needs a second consumer (--client-id and --client-secret twice)")
        return self.second

    def at_the_client(self, api: str) -> "World":
        """The same with the AIMLE client under test in the server's place, for tests of this API, which it serves.

        The test is not run where the operator named no client.
        """
        if self.at_client is None:
            self.report.not_applicable(api)
            pytest.skip("not applicable: no AIMLE client to judge (--aimle-client-url)")
        return replace(self, val=self.at_client)

    def inbox(self, api: str, name: str) -> Inbox:
        """A new address for the notifications of an operation."""
        inbox = self.listener.inbox(self.val.operation(api, name))
        self._inboxes.append(inbox)
        return inbox

    def client(self) -> AimleClient:
        """A new AIMLE client, which is there until the test ends; it is not registered yet."""
        client = AimleClient(self.listener, self.background, self.documents)
        self._clients.append(client)
        return client

    def registered_client(self) -> AimleClient:
        """A new AIMLE client that is registered."""
        client = self.client()
        client.register(self.val)
        return client

    def end_of_test(self) -> None:
        """Have the test's clients vanish; raise NotAsDocumented for what the server sent that no document has."""
        clients, self._clients = self._clients, []
        inboxes, self._inboxes = self._inboxes, []
        for client in clients:
            client.close()
        for receiver in (*clients, *inboxes):
            receiver.check()
