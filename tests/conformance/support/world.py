"""What a test has: the server's consumers, a listener that the server can call, and AIMLE clients."""

from dataclasses import dataclass, field

import pytest

from support.aimle_client import AimleClient
from support.background import Background
from support.consumer import Consumer
from support.documents import Documents
from support.listener import Inbox, Listener


@dataclass(repr=False)
class World:
    """The server under test as everybody around it sees it.

    Attributes:
        val: the consumer that most requests come from.
        second: one that may not touch the resources of `val`; None: the operator named none.
        model: bytes of a model that the server can have trained.
    """

    documents: Documents
    background: Background
    listener: Listener
    val: Consumer
    second: Consumer | None
    model: bytes
    _clients: list[AimleClient] = field(default_factory=list)
    _inboxes: list[Inbox] = field(default_factory=list)

    @property
    def other(self) -> Consumer:
        """Another consumer; the test is not run where the operator gave only one."""
        if self.second is None:
            pytest.skip("not run: needs a second consumer (--client-id and --client-secret twice)")
        return self.second

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
