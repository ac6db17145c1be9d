//! The operating system made safe: sockets, descriptors, processes, users.
