"""The states of aggregates: what is kept of events, so that it can be added to, and merged with another's.

Online rows keep them, one event after another. History aggregates whole columns (`offline.windows`); both are compared
with the brute force of `testing.window_oracle`.
"""
