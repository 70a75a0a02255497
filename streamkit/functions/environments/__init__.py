"""What runs a function's code. Read `port`, then `fork` (the default), `ric`, `inline`."""
