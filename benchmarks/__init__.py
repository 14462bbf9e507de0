"""Measured against the peer a user would pick, in the same run; results are kept in RESULTS.md."""
