"""`zoo recommend` and `zoo quadrant`."""
