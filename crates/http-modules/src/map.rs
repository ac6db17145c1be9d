//! `map`: variables computed through tables. The table itself is shared with the stream subsystem.
//! <https://nginx.org/en/docs/http/ngx_http_map_module.html>

use moonrest_http::prelude::*;

/// The module.
pub struct Map;
type D = Directive<Map>;

/// The sizes of nginx's hash tables. They are checked; tables here grow as they must.
#[derive(Default)]
pub struct HashSizes {
    max_size: Option<u64>,
    bucket_size: Option<u64>,
}

impl HttpModule for Map {
    const NAME: &'static str = "ngx_http_map_module";
    const DIRECTIVES: &'static [D] = &[
        D::main("map", Arity::Block { min: 2, max: 2 }, |sizes, args| {
            // nginx: the sizes must stand before the first block.
            sizes.max_size.get_or_insert(2048);
            sizes.bucket_size.get_or_insert(64);
            moonrest_core::map::set(args)
        }),
        D::main("map_hash_max_size", Arity::exactly(1), |sizes, args| {
            set_once(&mut sizes.max_size, args.uint(0)?)
        }),
        D::main("map_hash_bucket_size", Arity::exactly(1), |sizes, args| {
            set_once(&mut sizes.bucket_size, args.uint(0)?)
        }),
    ];
    type Main = HashSizes;
    type Loc = ();
}
