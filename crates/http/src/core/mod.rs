//! The core module: servers, locations, and the settings that the engine itself uses.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html>

mod blocks;
mod directives;
mod error_page;
mod server_settings;
mod settings;

pub use error_page::ErrorPage;
pub use server_settings::ServerSettings;
pub use settings::{
    Aio, Core, CoreLoc, DisableSymlinks, IfModifiedSince, InFileOnly, Lingering, OpenFileCache, Root,
    Satisfy, ServerTokens,
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
pub fn map_path(r: &Request) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(128);
    map_path_into(r, &mut path)?;
    Some(path)
}

/// The same in a buffer of the caller's; gives the length of the part that `root` or `alias` stands for. `None`, after
/// a line in the error log, when the path is no longer the one the location was found by.
pub fn map_path_into(r: &Request, path: &mut Vec<u8>) -> Option<usize> {
    let location = r.loc();
    let root = &location.core.root;
    if root.alias && !r.valid_location.get() {
        crate::alert!(
            r,
            "\"alias\" cannot be used in location \"{}\" where URI was rewritten",
            String::from_utf8_lossy(&location.name)
        );
        return None;
    }
    let start = path.len();
    append_root(r, path);
    let end = path.len();
    let uri = r.uri.borrow();
    match (root.alias, root.replaces) {
        (false, _) => path.extend_from_slice(&uri),
        (true, Some(len)) => path.extend_from_slice(uri.get(len..)?),
        // `try_files` chose another name below it.
        (true, None) if r.add_uri_to_alias.get() => path.extend_from_slice(&uri),
        (true, None) => {}
    }
    (!path.get(start..)?.contains(&0)).then_some(end - start)
}

/// What `root` or `alias` stands for, whole.
pub fn root_path(r: &Request) -> Vec<u8> {
    let mut path = Vec::with_capacity(128);
    append_root(r, &mut path);
    path
}

fn append_root(r: &Request, path: &mut Vec<u8>) {
    let root = &r.loc().core.root;
    let start = path.len();
    root.path.append(r, path);
    if root.relative && path.get(start) != Some(&b'/') {
        path.splice(start..start, r.http().prefix.as_os_str().as_encoded_bytes().iter().copied());
    }
}
