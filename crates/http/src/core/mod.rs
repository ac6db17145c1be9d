//! The core module: servers, locations, and the settings that the engine itself uses.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html>

mod blocks;
mod directives;
mod error_page;
mod server_settings;
mod settings;

pub use error_page::{ErrorPage, ErrorTarget};
pub use server_settings::ServerSettings;
pub use settings::{
    Core, CoreLoc, DisableSymlinks, IfModifiedSince, InFileOnly, Lingering, Satisfy, ServerTokens,
};

use crate::{
    compile::BlockId,
    listen::ListenLine,
    module::{Directive, HttpModule},
    request::Request,
};
use moonrest_core::var::VarDef;

/// The core module's place in the registry.
pub const MODULE: usize = 0;

/// The core module.
pub struct HttpCore;

/// What belongs to the whole `http` block.
#[derive(Default)]
pub struct CoreMain {
    /// Every `listen` of every server, in order.
    pub(crate) listens: Vec<(BlockId, ListenLine)>,
    /// Every `server`, in order, whether it has a `listen` or not.
    pub(crate) servers: Vec<(BlockId, moonrest_core::Span)>,
    /// Every name of every server.
    pub(crate) names: Vec<(BlockId, crate::listen::ServerName)>,
}

impl HttpModule for HttpCore {
    const NAME: &'static str = "ngx_http_core_module";
    const DIRECTIVES: &'static [Directive<Self>] = directives::TABLE;
    const VARIABLES: &'static [VarDef<Request>] = crate::variables::TABLE;
    type Main = CoreMain;
    type Loc = CoreLoc;
}

/// The file that the request's path means under `root` or `alias`.
pub fn map_path(r: &crate::request::Request) -> Option<Vec<u8>> {
    let location = r.loc();
    let root = &location.core.root;
    let uri = r.uri.borrow();
    let mut path = Vec::with_capacity(128);
    if root.relative {
        path.extend_from_slice(r.http().prefix.as_os_str().as_encoded_bytes());
    }
    root.path.append(r, &mut path);
    if root.alias {
        let matched = match location.kind {
            crate::location::LocationKind::Regex => uri.len(),
            _ => location.name.len(),
        };
        path.extend_from_slice(uri.get(matched..)?);
    } else {
        path.extend_from_slice(&uri);
    }
    (!path.contains(&0)).then_some(path)
}
