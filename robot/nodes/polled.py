"""Topics that are looked at instead of waited for: the control thread takes the newest message when a tick is due.

A sensor that sends 1000 times a second would wake an executor as often, and the interpreter would be busy with messages
that the next one replaces. What nobody waits for costs nothing, and a message is there as soon as DDS has received it.
"""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile


class _NotWaitedFor(CallbackGroup):
    """Entities that no executor waits for or runs."""

    def can_execute(self, entity: Any) -> bool:
        """Return that it is not for an executor."""
        del entity
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Return that it is not for an executor."""
        del entity
        return False

    def ending_execution(self, entity: Any) -> None:
        """Do nothing: none begins."""


def polled_subscription(node: Node, kind: Any, topic: str, qos: QoSProfile) -> Any:
    """Return a subscription whose messages wait, as many as its depth says, until `take` asks for them."""
    return node.create_subscription(kind, topic, _never_called, qos, callback_group=_NotWaitedFor())


def take(subscription: Any) -> list[Any]:
    """Return the messages that came since the last call, the oldest first; it does not block.

    The subscription must not be destroyed meanwhile.
    """
    messages = []
    with subscription.handle:
        while len(messages) < subscription.qos_profile.depth:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                break
            messages.append(taken[0])
    return messages


def _never_called(message: Any) -> None:
    raise AssertionError(f"an executor took a {type(message).__name__} that it was not to wait for")
