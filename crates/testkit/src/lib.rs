//! For tests: starts a server on a free port, raw client, the specification runner.
