# miros has no type hints, so that a checker cannot know what a chart inherits. For the check of our
# own hints (tools/matrix.sh) its classes stand here with whatever attributes anybody asks for.
# These stubs are not installed.

from typing import Any

from miros.activeobject import ActiveObject as ActiveObject
from miros.activeobject import Factory as Factory
from miros.event import Event as Event
from miros.event import return_status as return_status
from miros.event import signals as signals
from miros.hsm import HsmWithQueues as HsmWithQueues

def __getattr__(name: str) -> Any: ...
