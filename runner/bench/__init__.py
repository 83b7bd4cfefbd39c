"""``task=bench``: callers at a set rate, what they wait for, and what that costs.

`wire` and `session_io` are what an agent under test needs to be called without a room; they
import nothing of this project, so that others' agents answer the same callers.
"""
