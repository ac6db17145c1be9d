//! The nginx HTTP modules, a file or folder each.
