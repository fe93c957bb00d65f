"""Rows made of all their events at once, for many keys together: events as arrays go in, stored lists come out.

`testing.window_rows.build_row` does the same for one key, event after event;
`tests/unit/online/rows/windows/test_building.py` compares the two to the byte.
"""
