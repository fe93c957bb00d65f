"""The online row of a window version: its lists of aggregates, its header, and how both are stored.

`codec`, `row`, `lists` and `reading` are the scalar forms. `decoded` reads many rows at once (`reading_columns`), or
one in place (`reading_one`); `stored_numbers` changes lists of numbers as they are stored. Both are tested against
those.
"""
