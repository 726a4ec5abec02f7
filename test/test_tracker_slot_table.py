"""The slot table against a plain dictionary, on random additions, removals and writes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from taptr_ros.tracking.slot_table import SlotTable, blank_records

CAPACITY = 8

action = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("remove"), st.sets(st.integers(0, CAPACITY - 1))),
    st.tuples(st.just("write"), st.sets(st.integers(0, CAPACITY - 1))),
    st.tuples(st.just("clear"), st.none()),
)


class PlainMemory:
    """The memory of one track as a list in order of age."""

    def __init__(self) -> None:
        self.memories: list[int] = []

    def write(self, memory: int, slots: int, pin: bool) -> None:
        self.memories.append(memory)
        if len(self.memories) > slots:
            del self.memories[1 if pin else 0]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(actions=st.lists(action, max_size=60), slots=st.integers(1, 5), pin=st.booleans())
def test_table_equals_a_dictionary(actions, slots, pin):
    table = SlotTable(CAPACITY, slots, pin)
    storage = np.full((CAPACITY, slots), -1)  # what a backend would hold
    plain: dict[int, PlainMemory] = {}
    next_id = 1
    for number, (name, argument) in enumerate(actions):
        if name == "append" and table.size + argument <= CAPACITY:
            records = blank_records(argument)
            records["id"] = np.arange(next_id, next_id + argument)
            rows = table.append(records)
            storage[rows] = -1
            plain |= {id_: PlainMemory() for id_ in range(next_id, next_id + argument)}
            next_id += argument
        elif name == "remove":
            rows = np.array([row for row in argument if row < table.size], np.int64)
            for id_ in table.live["id"][rows].tolist():
                del plain[id_]
            for row, source in table.remove(rows):
                storage[row] = storage[source]
        elif name == "write":
            rows = np.array([row for row in argument if row < table.size], np.int64)
            written = table.take_slots(rows)
            storage[rows[written >= 0], written[written >= 0]] = number
            for id_ in table.live["id"][rows].tolist():
                plain[id_].write(number, slots, pin)
        elif name == "clear":
            table.clear()
            plain = {}
        assert sorted(table.live["id"].tolist()) == sorted(plain)
        assert table.filled_slots == max((len(track.memories) for track in plain.values()), default=0)
        for row, id_ in enumerate(table.live["id"].tolist()):
            memories = plain[id_].memories
            assert sorted(storage[row, : len(memories)].tolist()) == sorted(memories)
            assert (storage[row, len(memories) :] == -1).all()
            if pin and memories:
                assert storage[row, 0] == memories[0]


def test_the_table_never_reallocates():
    table = SlotTable(4, 2, pin_first=True)
    table.append(blank_records(1))
    address = table.live.__array_interface__["data"]
    for _ in range(100):
        table.append(blank_records(3))
        table.remove(np.array([0, 2, 3]))
    assert table.live.__array_interface__["data"] == address
