//! `degradation`: nginx can refuse requests when its heap has grown beyond a size. There is no such heap here, so the
//! directives are checked and have no effect.

use moonrest_core::conf::value::parse_size;
use moonrest_http::prelude::*;

/// The module.
pub struct Degradation;
type D = Directive<Degradation>;

impl HttpModule for Degradation {
    const NAME: &'static str = "ngx_http_degradation_module";
    const DIRECTIVES: &'static [D] = &[
        D::new(
            "degradation",
            Contexts::HTTP,
            Arity::exactly(1),
            Set::Accepted(|args| {
                let Some(size) = args.bytes(0)?.strip_prefix(b"sbrk=") else {
                    return Err(args.invalid_parameter(0));
                };
                match parse_size(size) {
                    Some(_) => Ok(()),
                    None => Err(Fault::message(format!("invalid sbrk size \"{}\"", args.lossy(0)))),
                }
            }),
        ),
        D::new(
            "degrade",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Enum(&["204", "444"], |loc: &mut Loc| &mut loc.degrade),
        ),
    ];
    type Main = ();
    type Loc = Loc;
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    degrade: Option<usize>,
}
inherit!(Loc { degrade });
