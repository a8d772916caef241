"""What a message contains, and how it becomes bytes and is read back; no socket, no thread.

A `sealer` turns bodies into the records of a message, an `opener` turns a message into what its
records contain; `message` and `record` have the layouts, `keyring` derives the keys, and `codec`
has what all of them share. `age` judges when something was sent. `pickling` is the default
serializer: before it loads a pickle, `pickle_check` looks at every opcode, by the syntax in
`opcodes` and the limits in `pickle_cost`; then `unpickler` loads it with the classes of
`payload_types` only. `json_codec` is for users who want no pickle on the wire; `keys` checks the
keys that users give, and `notice` has what nodes tell each other. This subpackage may import the
root's modules only.
"""
