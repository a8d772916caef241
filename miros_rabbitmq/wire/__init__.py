"""What travels in a message, and how it becomes bytes and back: pure, without socket or thread.

Here are the encryption keys, the envelope and its codec, the serializers, and the check that a
pickle must pass before it is loaded. May import the root's modules only. The layers above use
`codec.Codec`, `envelope.Envelope` and `envelope.Identity`, `keys.check_keys`, the bodies of notices
in `announcement`, and `json_codec` for users who want no pickle on the wire.
"""
