"""Fares of the ferry line, as the kiosk computes them."""

ADULT_EUROS = 11.40
CHILD_SHARE = 0.5  # children from 4 to 15 years pay half
FREE_BELOW_YEARS = 4
VEHICLE_EUROS_PER_METRE = 6.20


def fare(age: int) -> float:
    """The fare of one passenger, in euros; below four years nothing."""
    if age < FREE_BELOW_YEARS:
        return 0.0
    return ADULT_EUROS * (CHILD_SHARE if age < 16 else 1.0)


def vehicle_fare(length_m: float) -> float:
    """The fare of a vehicle by its length; a bicycle is no vehicle and travels free."""
    return max(length_m, 3.0) * VEHICLE_EUROS_PER_METRE
