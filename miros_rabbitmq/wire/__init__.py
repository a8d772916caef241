"""What a message contains, and how it becomes bytes and is read back; no socket, no thread.

`codec` encrypts an `envelope` into a token and checks every token that arrives; `keys` checks the
encryption keys. `pickling` is the default serializer: before it loads a pickle, `pickle_check`
looks at every opcode, by the syntax in `opcodes` and the limits in `pickle_cost`; then `unpickler`
loads it with the classes of `payload_types` only. `json_codec` is for users who want no pickle on
the wire, and `announcement` has the bodies of notices. This subpackage may import the root's
modules only. The layers above use `codec.Codec` and its checks of bodies, `envelope.Envelope`,
`envelope.Identity` and the names of networks, `keys.check_keys`, and the functions of
`announcement`.
"""
