"""The online row of a window version: its lists of aggregates, its header, and how both are stored.

`codec`, `row`, `lists` and `reading` are the scalar forms. `decoded` reads many rows at once (`reading_columns`), or
one in place (`reading_one`); `stored_events` changes lists of numbers as they are stored, of one row (`stored_counts`,
`stored_extremes`) or of many at once (`records_of_many`, `counts_of_many`, `extremes_of_many`). Both are tested against
those.
"""
