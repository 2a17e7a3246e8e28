"""The simulated floor: parts with known defects, a belt and cameras that sometimes fail."""
