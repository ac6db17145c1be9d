//! What a module file needs: `use moonrest_http::prelude::*;`.

pub use crate::{
    Flow, Request, RequestError, RequestRef, Step,
    args::Args,
    filter::{
        BodyFilter, BodyOrder, FileRange, FilterStep, HeaderFilter, HeaderOrder, Needed, OpenFile, Piece,
        Pieces,
    },
    location::{LocationBuilder, LocationKind, Speaks},
    module::{Directive, HttpModule, Set, ValueFunction},
    phase::{LogHandler, Phase, PhaseHandler},
    regex::CapturingRegex,
    worker::Worker,
};
pub use bytes::Bytes;
pub use moonrest_core::{
    Arity, ConfResult, Contexts, Fault, Inherit, Level, Regex, Subject, Template, VarId, inherit, set_once,
    var::{GetFn, Getter, PrefixFn, SetFn, VarDef, Variable},
};
pub use std::sync::Arc;
