"""The servers behind a URL: a node for each address, made when it is first asked, and plans that are asked of them."""

from __future__ import annotations

from typing import Any, TypeVar

from headwater.errors import HeadwaterError, was_closed
from headwater.online.connections import ConnectionCounts
from headwater.online.stores.redis.nodes import Node
from headwater.online.stores.redis.reads import Plan, Question
from headwater.online.stores.redis.url import Address, RedisLocation

T = TypeVar("T")


class Servers:
    """Nodes by address.

    Args:
        location: how to connect.
    """

    def __init__(self, location: RedisLocation) -> None:
        self.location = location
        self._nodes: dict[tuple[Address, bool], Node] = {}
        self._closed = False

    def node(self, address: Address, sentinel: bool = False) -> Node:
        """The node at an address.

        Raises:
            Unavailable: all were closed.
        """
        if self._closed:
            raise was_closed(f"{self.location.shown} was closed")
        node = self._nodes.get((address, sentinel))
        if node is None:
            node = self._nodes.setdefault((address, sentinel), Node(self.location, address, sentinel=sentinel))
        return node

    def run(self, plan: Plan[T]) -> T:
        """Ask what a plan asks; several nodes at once where it does."""
        try:
            questions = next(plan)
            while True:
                questions = plan.send(self._answers(questions))
        except StopIteration as done:
            result: T = done.value
            return result

    def _answers(self, questions: list[Question]) -> list[list[Any] | HeadwaterError]:
        nodes = [self.node(question.node, question.sentinel) for question in questions]
        sent = [node.send(q.commands, q.timeout) for node, q in zip(nodes, questions, strict=True)]
        answers: list[list[Any] | HeadwaterError] = []
        for question, node, pending in zip(questions, nodes, sent, strict=True):
            try:
                answers.append(node.receive(pending, question.each))
            except HeadwaterError as bad:
                answers.append(bad)
        return answers

    def connections(self) -> ConnectionCounts:
        """The connections to all nodes."""
        return ConnectionCounts.total(node.connections() for node in list(self._nodes.values()))

    def close(self) -> None:
        """End all connections; nothing is asked any more."""
        self._closed = True
        for node in list(self._nodes.values()):
            node.close()
