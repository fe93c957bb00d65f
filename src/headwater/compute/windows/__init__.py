"""Window rows kept once per event: what writers, deletes, folds, rebuilds and fills do to them, step by step.

Each piece of work is a generator of requests (`requests`) that gets their answers back, so that one piece of code is
driven with and without `async`, and by tests one step at a time. Every condition is on the row that is written, or on
the store's epoch: nothing of one key depends on another.
"""
