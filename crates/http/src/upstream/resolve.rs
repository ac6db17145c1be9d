//! Names that are looked up while a request waits.

use crate::request::RequestRef;
use moonrest_net::addr::Addr;

/// The addresses of a name; a status when there are none.
pub(super) async fn lookup(r: &RequestRef, host: &[u8], _port: u16) -> Result<Vec<Addr>, u16> {
    crate::error!(r, "no resolver defined to resolve {}", String::from_utf8_lossy(host));
    Err(502)
}
