//! Reading the PROXY protocol header in front of a connection's first request.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#listen> (`proxy_protocol`)

use super::h1::{Fill, H1};
use crate::exchange::ProxyInfo;
use moonrest_core::Level;
use moonrest_proto::proxy_protocol::{MAX, Parse, parse};
use std::{future::poll_fn, rc::Rc};

impl H1 {
    /// Reads the header and keeps what it says. `false` when the connection must be closed.
    pub(super) async fn read_proxy_header(self: &Rc<Self>) -> bool {
        self.timeout.set(self.default_settings().client_header_timeout);
        loop {
            match self.parse_proxy_header() {
                Some(settled) => {
                    self.timeout.clear();
                    return settled;
                }
                None => match poll_fn(|cx| self.poll_fill(cx)).await {
                    Ok(n) if n > 0 => {}
                    Err(Fill::TimedOut) => {
                        self.timed_out.set(true);
                        return false;
                    }
                    _ => return false,
                },
            }
        }
    }

    /// `None` when more bytes are needed.
    fn parse_proxy_header(&self) -> Option<bool> {
        let buffer = self.buffer.borrow();
        let unread = buffer.get(self.at.get()..).unwrap_or_default();
        if unread.is_empty() {
            return None;
        }
        match parse(unread) {
            Ok(Parse::Partial) if unread.len() <= MAX => None,
            Ok(Parse::Partial) => Some(false),
            Ok(Parse::Complete { len, header }) => {
                let info = header.map(|header| {
                    Box::new(ProxyInfo {
                        source: header.source.to_string().into_bytes().into(),
                        source_port: header.source.port,
                        source_ip: Some(header.source.ip),
                        destination: header.destination.to_string().into_bytes().into(),
                        destination_port: header.destination.port,
                        tlvs: header.tlvs.into(),
                    })
                });
                if let Some(info) = info {
                    // One header per connection: nothing is set yet.
                    let _ = self.conn.proxy_protocol.set(info);
                }
                self.at.set(self.at.get() + len);
                Some(true)
            }
            Err(error) => {
                let message = error.log_message(unread);
                self.say(Level::Error, format_args!("{message} while reading PROXY protocol"));
                Some(false)
            }
        }
    }
}
