//! What http and stream share: directive tables and merging, variables, templates, shared zones, the error log.
