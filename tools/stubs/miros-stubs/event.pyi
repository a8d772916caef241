from collections import OrderedDict
from typing import Any

class Event:
    def __init__(self, signal: str | int, payload: Any = ...) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

class SignalSource(OrderedDict[str, int]):
    def __getattr__(self, name: str) -> int: ...

signals: SignalSource
return_status: Any

def __getattr__(name: str) -> Any: ...
