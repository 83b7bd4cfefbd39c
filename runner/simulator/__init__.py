"""Servers that speak the providers' wire shapes, with latencies and scripted faults."""
