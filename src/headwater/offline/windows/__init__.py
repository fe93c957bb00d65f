"""Windows in history: the aggregates of the events that each window of a spine's rows holds, in NumPy.

Events of whole keys come in, in any order; nothing here knows where they come from.
"""
