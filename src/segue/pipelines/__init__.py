"""What is moved: pure functions from what one store holds to what the other one takes. No I/O, no clock, no config."""
