"""What a broker may still say of the messages that were published on a channel.

A broker confirms each message once, and returns it at most once, before that. Somebody who only
pretends to be a broker could go on for ever: with confirms of messages that were never sent, or
were confirmed long ago, each of which costs this node some work and the other side next to nothing.

Pure, and not thread-safe: whoever publishes and whoever reads hold the link's lock.
"""

from __future__ import annotations


class Owed:
    """Counts the messages of one channel.

    Attributes:
        most_returned: the largest body that may be returned, in bytes: that of the largest message
            which was published.
    """

    __slots__ = ("_published", "_returnable", "_unconfirmed", "most_returned")

    def __init__(self) -> None:
        self.most_returned: int = 0
        self._published = 0
        # At least as many as really are: a confirm of several may be counted as that of one.
        self._unconfirmed = 0
        self._returnable = 0

    def note_published(self, size: int) -> None:
        """Note that a message of a size in bytes was published."""
        self._published += 1
        self._unconfirmed += 1
        self._returnable += 1
        if size > self.most_returned:
            self.most_returned = size

    def note_confirm(self, tag: int, *, multiple: bool) -> bool:
        """Note a confirm, whether positive or not.

        Args:
            tag: the number of a message on this channel, from 1.
            multiple: it stands for all messages up to that one.

        Returns:
            whether it can be that of a broker: some message is unconfirmed, and this one was sent.
        """
        left = self._unconfirmed - 1
        behind = self._published - tag
        if left < 0 or behind < 0:
            return False
        if multiple and behind < left:
            left = behind
        self._unconfirmed = left
        if left < self._returnable:
            self._returnable = left
        return True

    def note_return(self) -> bool:
        """Note that a message comes back; returns whether one may."""
        if not self._returnable:
            return False
        self._returnable -= 1
        return True
