//! What FastCGI, SCGI and uwsgi have in common: parameters in the place of header fields, heads without a status line,
//! addresses without a scheme.

pub(crate) mod head;
pub(crate) mod params;
pub(crate) mod pass;

pub(crate) use head::read;
pub(crate) use params::{Param, Params};
pub(crate) use pass::Pass;

/// Fields of answers that are not passed on.
pub(crate) const HIDDEN: &[&str] = &[
    "Status",
    "X-Accel-Expires",
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
];
