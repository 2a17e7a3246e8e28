"""The line as a PLC knows it: PackML states, OEE, and the picture that graph and PLC exchange."""
