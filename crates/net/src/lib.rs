//! Listeners, connectors, TLS, resolver, connection pools and timers.
